//! The mainsheet binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    share_memory();
    mainsheet::cli::main()
}

/// What one thread gives up, others may have. The C library would have up to eight arenas for each core, and changes that
/// come to the threads in turn leave holes in all of them: half as much memory again after a day's changes.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library is told so in no other way")]
fn share_memory() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: there is no other thread yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
    }
}

#[cfg(not(target_env = "gnu"))]
fn share_memory() {}
