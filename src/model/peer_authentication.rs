//! PeerAuthentications: whether workloads take mutual TLS.

use super::{Created, Labels};
use crate::id::{Namespace, ObjectRef};
use std::{collections::BTreeMap, sync::Arc};

/// Whether connections to a workload are mutual TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum MtlsMode {
    /// They are not.
    Disable,
    /// They may be.
    #[default]
    Permissive,
    /// They must be.
    Strict,
}

/// What one PeerAuthentication says. A mode that is `None` is that of the wider scope.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PeerAuthentication {
    /// The object.
    pub source: ObjectRef,
    /// When it was made; the oldest of a scope counts.
    pub created: Created,
    /// The labels of the workloads it is for; empty for all of the namespace, or of the mesh in the root namespace.
    pub selector: Labels,
    /// For every port.
    pub mode: Option<MtlsMode>,
    /// For single ports of the workload.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}

impl PeerAuthentication {
    /// The namespace it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }

    /// The order in which those of one scope count: the first alone does.
    pub fn rank(&self) -> (Created, &Arc<str>) {
        (self.created, &self.source.name)
    }
}

/// What holds for one workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PeerMtls {
    /// For the ports that are not named.
    pub mode: MtlsMode,
    /// For single ports of the workload.
    pub ports: BTreeMap<u16, MtlsMode>,
    /// The objects that say so, the widest scope first.
    pub sources: Vec<ObjectRef>,
}

impl PeerMtls {
    /// What holds for a port of the workload.
    pub fn at(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}
