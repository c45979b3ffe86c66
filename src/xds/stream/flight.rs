//! A response that is under way.

use super::{
    holding::{Has, Holding},
    names::NameSet,
};
use crate::translate::Resource;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A response that was sent and not answered.
#[derive(Debug)]
pub(super) struct Flight {
    /// What the client answers it by.
    pub(super) nonce: String,
    /// What was in it.
    pub(super) sent: Arc<[Arc<Resource>]>,
    /// The names that were said to be gone.
    pub(super) gone: Vec<Arc<str>>,
    /// What the client had before.
    pub(super) before: Holding,
    /// What had to be sent whatever the client had.
    pub(super) again: BTreeSet<Arc<str>>,
    /// And all of these, where the client had nothing.
    pub(super) first: NameSet,
    /// It has more than `sent` that the client may refuse.
    pub(super) mixed: bool,
}

impl Flight {
    /// What the client has once it takes this, by name.
    pub(super) fn says(&self) -> BTreeMap<Arc<str>, Has> {
        let sent = self.sent.iter().map(|r| (r.name.clone(), Has::This(r.clone())));
        sent.chain(self.gone.iter().map(|name| (name.clone(), Has::Nothing))).collect()
    }
}
