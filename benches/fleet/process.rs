//! What a process has used, from `/proc`.

use std::fs;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Processor time of its threads, in seconds.
    pub(crate) cpu: f64,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    /// The most resident memory so far, in bytes.
    pub(crate) peak: u64,
}

/// What a process has used so far; zeros where there is none.
pub(crate) fn used(pid: Option<u32>) -> Used {
    let Some(pid) = pid else { return Used::default() };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Used { cpu: cpu(pid), resident: field("VmRSS"), peak: field("VmHWM") }
}

/// Forgets the peak of a process, so that the next one is seen.
pub(crate) fn forget_peak(pid: Option<u32>) {
    if let Some(pid) = pid {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// The scheduler counts nanoseconds, but for each thread that still runs; the process's own count is in hundredths of
/// a second and has those that ended. The larger of the two is nearer to the truth.
fn cpu(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    let running = nanos.sum::<u64>() as f64 / 1e9;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    running.max((ticks(11) + ticks(12)) / 100.0)
}
