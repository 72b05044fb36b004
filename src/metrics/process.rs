//! Metrics of the process, with the usual names. Available on Linux only.

use std::fmt;
use std::fs;

use super::page::Page;

/// Clock ticks per second, in which Linux reports times to programs on every machine.
const TICKS: f64 = 100.0;

/// Writes the metrics that can be read.
pub(super) fn write(page: &mut Page<'_>) -> fmt::Result {
    let one = |value: Option<f64>| value.map(|value| ([] as [(&str, &str); 0], value));
    page.gauge(
        "process_resident_memory_bytes",
        "Memory of the operator. Alert if it approaches the container's limit.",
        one(resident()),
    )?;
    page.counter("process_cpu_seconds", "Processor time of the operator.", one(processor()))?;
    page.gauge("process_open_fds", "Open file descriptors of the operator.", one(descriptors()))
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes * 1_024.0)
}

fn processor() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses and may contain anything, even a parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((fields.next()? + fields.next()?) / TICKS)
}

fn descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}
