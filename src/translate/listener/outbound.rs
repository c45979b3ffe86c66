//! Outbound listeners: one for each port, or address and port, that services have, and the one that captured traffic arrives at.

use crate::{
    snapshot::{Delta, View},
    translate::{
        Built, Renderer,
        part::{Affected, Unit},
    },
};
use std::collections::BTreeSet;

pub(in crate::translate) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.ports().map(Unit::Port).chain([Unit::Fixed]).collect()
}

pub(in crate::translate) fn affected(_: &View<'_>, _: &View<'_>, _: &Delta) -> Affected {
    Affected::All
}

pub(in crate::translate) fn build(_: &View<'_>, _: &Unit, _: &dyn Renderer) -> Built {
    Built::default()
}
