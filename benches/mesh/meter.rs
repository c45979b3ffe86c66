//! What work costs: time, processor time, allocations, memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// The system's allocator, counting.
#[derive(Debug)]
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Whether it counts: that itself takes a fifth of the time of work that does little else than to allocate.
static COUNTS: AtomicBool = AtomicBool::new(true);

fn grow(by: usize) {
    if !COUNTS.load(Relaxed) {
        return;
    }
    ALLOCATIONS.fetch_add(1, Relaxed);
    let live = LIVE.fetch_add(by as u64, Relaxed) + by as u64;
    PEAK.fetch_max(live, Relaxed);
}

fn shrink(by: usize) {
    if COUNTS.load(Relaxed) {
        LIVE.fetch_sub(by as u64, Relaxed);
    }
}

#[allow(unsafe_code, reason = "an allocator that counts cannot be written without")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrink(layout.size());
        grow(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What some work cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Seconds of processor time of this thread.
    pub(crate) cpu: f64,
    /// Allocations.
    pub(crate) allocations: u64,
    /// Bytes that it left allocated.
    pub(crate) kept: i64,
    /// The most bytes that it had allocated beyond those before it.
    pub(crate) peak: u64,
}

/// Does the work and says what it cost.
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let live = LIVE.load(Relaxed);
    PEAK.store(live, Relaxed);
    let (allocations, cpu, wall) = (ALLOCATIONS.load(Relaxed), cpu_seconds(), Instant::now());
    let result = work();
    let cost = Cost {
        wall: wall.elapsed().as_secs_f64(),
        cpu: cpu_seconds() - cpu,
        allocations: ALLOCATIONS.load(Relaxed) - allocations,
        kept: LIVE.load(Relaxed) as i64 - live as i64,
        peak: PEAK.load(Relaxed).saturating_sub(live),
    };
    (result, cost)
}

/// Does the work, which gives up all that it allocates, and says how many seconds of processor time it took. Nothing is
/// counted meanwhile.
pub(crate) fn time(work: impl FnOnce()) -> f64 {
    COUNTS.store(false, Relaxed);
    let before = cpu_seconds();
    work();
    let seconds = cpu_seconds() - before;
    COUNTS.store(true, Relaxed);
    seconds
}

/// Processor time of this thread; where the kernel does not tell, 0.
pub(crate) fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    nanoseconds as f64 / 1e9
}

/// Bytes that are allocated now.
pub(crate) fn live() -> i64 {
    LIVE.load(Relaxed) as i64
}

/// The process's resident memory in bytes: now (`VmRSS`) or at its most (`VmHWM`).
pub(crate) fn resident(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
