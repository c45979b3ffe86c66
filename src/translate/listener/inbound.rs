//! The inbound side: the listener that captured traffic to the workload arrives at, and the clusters behind it.

use crate::{
    snapshot::{Delta, View},
    translate::{Built, Renderer, part::Affected},
};
use std::collections::BTreeSet;

pub(in crate::translate) fn affected(_: &View<'_>, _: &Delta) -> Affected {
    Affected::Units(BTreeSet::new())
}

pub(in crate::translate) fn build(_: &View<'_>, _: &dyn Renderer) -> Built {
    Built::default()
}
