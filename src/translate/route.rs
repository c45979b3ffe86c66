//! Outbound routes: one RouteConfiguration for each HTTP port, put together from virtual hosts.

use super::{
    Built, Renderer,
    part::{Affected, Unit},
};
use crate::snapshot::{Delta, View};
use std::collections::BTreeSet;

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.ports().map(Unit::Port).collect()
}

pub(super) fn affected(_: &View<'_>, _: &View<'_>, _: &Delta) -> Affected {
    Affected::All
}

pub(super) fn build(_: &View<'_>, _: &Unit, _: &dyn Renderer) -> Built {
    Built::default()
}
