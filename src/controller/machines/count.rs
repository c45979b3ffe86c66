//! How often machines came and went, under istiod's names (reference: `pilot/pkg/autoregistration/controller.go`).

use crate::prometheus::{Measured, Page};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of machines whose entries are made for them.
#[derive(Debug, Default)]
pub struct Registrations([AtomicU64; 5]);

/// Something that is counted.
#[derive(Clone, Copy, Debug)]
pub(in crate::controller) enum Counted {
    /// An entry was made.
    Made,
    /// A machine has come back to its entry.
    Updated,
    /// A machine has gone, and its entry says so.
    Left,
    /// The entry of one that has not come back was removed.
    Removed,
    /// An entry could not be written.
    Failed,
}

const NAMES: [(Counted, &str, &str); 5] = [
    (Counted::Made, "auto_registration_success_total", "Entries made for machines."),
    (Counted::Updated, "auto_registration_updates_total", "Machines that came back to their entries."),
    (Counted::Left, "auto_registration_unregister_total", "Machines that have gone."),
    (Counted::Removed, "auto_registration_deletes_total", "Entries removed some time after their machines had gone."),
    (Counted::Failed, "auto_registration_errors_total", "Entries of machines that could not be written."),
];

impl Registrations {
    pub(in crate::controller) fn count(&self, what: Counted) {
        self.0[what as usize].fetch_add(1, Relaxed);
    }
}

impl Measured for Registrations {
    fn write(&self, page: &mut Page) {
        for (what, name, help) in NAMES {
            page.counter(name, help).value(self.0[what as usize].load(Relaxed));
        }
    }
}
