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
    fn this_process_holds_memory() {
        assert!(peak_rss_bytes(std::process::id()) > 0);
    }
}
