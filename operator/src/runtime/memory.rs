//! [io] How much memory the process holds, read from the kernel at every scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// Where the kernel says it.
const STATUS: &str = "/proc/self/status";

/// `process_resident_memory_bytes`, named as in other programs; nothing on a system without `/proc`.
#[derive(Debug)]
pub struct Memory;

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(bytes) = std::fs::read_to_string(STATUS).ok().and_then(|status| resident(&status)) else { return Ok(()) };
        let gauge = ConstGauge::new(bytes);
        let name = "process_resident_memory_bytes";
        gauge.encode(encoder.encode_descriptor(name, "Memory that the process holds", None, gauge.metric_type())?)
    }
}

/// `VmRSS` in bytes.
fn resident(status: &str) -> Option<i64> {
    const BYTES_PER_KIB: i64 = 1_024;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(BYTES_PER_KIB)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_scrape_shows_the_memory_of_now() {
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t   2048 kB\nThreads:\t1\n"), Some(2_097_152));
        assert_eq!(resident("VmRSS:\t none\n"), None);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Memory));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(line.parse::<u64>().unwrap() > 1_000_000, "{text}");
    }
}
