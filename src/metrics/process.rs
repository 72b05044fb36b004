//! The process itself, by the names that every exporter has for it. Only Linux tells.

use std::fmt;
use std::fs;

use super::exposition::Page;

/// In how many parts Linux divides a second for programs, on every machine.
const TICKS: f64 = 100.0;

/// Writes what can be read.
pub(super) fn write(page: &mut Page<'_>) -> fmt::Result {
    let one = |value: Option<f64>| value.map(|value| ([] as [(&str, &str); 0], value));
    page.gauge(
        "process_resident_memory_bytes",
        "Memory of the operator. Alert when it nears the container's limit.",
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
    // The name of the program comes first, in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((fields.next()? + fields.next()?) / TICKS)
}

fn descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}
