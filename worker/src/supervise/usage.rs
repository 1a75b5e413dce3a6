//! [io] What processes use, from procfs. Figures that cannot be read are 0: they are for people and benches only.

use std::fs;

/// User and system time of this process and of all children that it has waited for, seconds.
pub fn cpu_seconds() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0.0 };
    parse_cpu_ticks(&stat) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The most memory a process has held, bytes.
pub fn peak_rss_bytes(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |status| parse_peak(&status))
}

/// How many processes of this container the kernel has killed for want of memory. On a machine without containers it
/// counts for the whole of it, or is not to be had.
pub fn out_of_memory_kills() -> u64 {
    // cgroup v2, then v1: inside a container its own group is at the root of the mount.
    let files = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    files.into_iter().find_map(|file| parse_kills(&fs::read_to_string(file).ok()?)).unwrap_or(0)
}

fn parse_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Fields 14 to 17 of `/proc/<pid>/stat` (`proc_pid_stat(5)`): utime, stime, cutime, cstime. The second field is a name
/// in parentheses that may itself hold spaces and parentheses.
fn parse_cpu_ticks(stat: &str) -> u64 {
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0 };
    rest.split_ascii_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn parse_peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_behind_a_name_with_parentheses() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 100";
        assert_eq!(parse_cpu_ticks(stat), 100);
        assert_eq!(parse_cpu_ticks(""), 0);
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t    2048 kB\n"), 2048 * 1024);
        assert_eq!(parse_peak("Name:\tx\n"), 0);
    }

    #[test]
    fn kills_for_want_of_memory_are_counted_in_both_forms() {
        assert_eq!(parse_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(parse_kills("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn this_process_holds_memory() {
        assert!(peak_rss_bytes(std::process::id()) > 0);
    }
}
