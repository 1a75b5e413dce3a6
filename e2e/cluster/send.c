/* Brings a fault into a container that has no shell: send SIGNAL PID, or send SIGNAL WORDS for every process whose
   command line begins with WORDS (its folder left out), which fails when there is none; or send fill FILE, which writes
   128 MiB. */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fill(const char *path) {
  static char block[1 << 20];
  FILE *file = fopen(path, "w");
  if (!file) return 1;
  memset(block, 'x', sizeof block);
  for (int at = 0; at < 128; at++) if (fwrite(block, sizeof block, 1, file) != 1) return 1;
  return fclose(file) ? 1 : 0;
}

static int begins(const char *pid, const char *words) {
  char path[64], line[4096];
  snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  size_t size = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[size] = 0;
  const char *slash = strrchr(line, '/');
  size_t start = slash ? (size_t)(slash - line) + 1 : 0;
  for (size_t at = 0; at < size; at++) if (!line[at]) line[at] = ' ';
  return strncmp(line + start, words, strlen(words)) == 0;
}

int main(int count, char **words) {
  if (count != 3) return 2;
  if (strcmp(words[1], "fill") == 0) return fill(words[2]);
  int number = atoi(words[1]), sent = 0;
  if (isdigit((unsigned char)words[2][0])) return kill(atoi(words[2]), number) ? 1 : 0;
  DIR *all = opendir("/proc");
  if (!all) return 1;
  for (struct dirent *entry; (entry = readdir(all));)
    if (isdigit((unsigned char)entry->d_name[0]) && begins(entry->d_name, words[2]))
      sent += kill(atoi(entry->d_name), number) == 0;
  closedir(all);
  return sent ? 0 : 1;
}
