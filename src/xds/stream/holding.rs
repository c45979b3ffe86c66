//! What a client has of one type: the configuration that it was last served, and the few names where it has
//! something else. Streams that are up to date hold nothing of their own.

use super::names::NameSet;
use crate::{
    id::ResourceType,
    pb::envoy::config::endpoint::v3::ClusterLoadAssignment,
    translate::{Config, Resource, digest},
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

/// What a client has under one name.
#[derive(Clone, Debug)]
pub(super) enum Has {
    /// Nothing.
    Nothing,
    /// Something that it named a version of when it came, and the digest of that.
    Named(u64, u128),
    /// Something that it named in a way that is not ours.
    Stale,
    /// This.
    This(Arc<Resource>),
}

impl Has {
    pub(super) fn is(&self, resource: &Resource) -> bool {
        match self {
            Self::This(this) => this.version == resource.version,
            Self::Named(version, _) => *version == resource.version,
            Self::Nothing | Self::Stale => false,
        }
    }

    /// Whether two are the same, as far as is known.
    pub(super) fn equals(&self, other: &Has) -> bool {
        match (self, other) {
            (Self::This(this), Self::This(that)) => this.version == that.version,
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }

    fn named(name: &Arc<str>, version: &str) -> Self {
        match u64::from_str_radix(version, 16) {
            Ok(version) => Self::Named(version, digest(name, version)),
            Err(_) => Self::Stale,
        }
    }

    fn digest(&self) -> u128 {
        match self {
            Self::This(resource) => resource.digest,
            Self::Named(_, digest) => *digest,
            Self::Nothing | Self::Stale => 0,
        }
    }
}

/// What a client has of one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    /// The configuration that it was last served.
    pub(super) served: Arc<Config>,
    /// Where it has something else than that configuration says.
    pub(super) except: BTreeMap<Arc<str>, Has>,
    /// The sum over all that it has: equal sets have equal sums, in whatever steps they came about.
    digest: u128,
}

impl Holding {
    pub(super) fn of(&self, kind: ResourceType, name: &str) -> Has {
        match self.except.get(name) {
            Some(has) => has.clone(),
            None => self.served.get(kind, name).map_or(Has::Nothing, |r| Has::This(r.clone())),
        }
    }

    /// Whether it is exactly what this configuration says.
    pub(super) fn is(&self, config: &Arc<Config>) -> bool {
        self.except.is_empty() && Arc::ptr_eq(&self.served, config)
    }

    /// Whether there was never anything in it.
    pub(super) fn is_blank(&self) -> bool {
        self.except.is_empty() && self.served.parts().is_empty()
    }

    /// The version as it is on the wire.
    pub(super) fn version(&self) -> String {
        format!("{:032x}", self.digest)
    }

    /// Forgets what it has under a name.
    pub(super) fn forget(&mut self, kind: ResourceType, name: &Arc<str>) {
        self.digest = self.digest.wrapping_sub(self.of(kind, name).digest());
        self.except.remove(name);
    }

    /// Starts with nothing under a name.
    pub(super) fn start(&mut self, name: &Arc<str>) {
        self.except.insert(name.clone(), Has::Nothing);
    }

    /// Notes that the client has everything as `config` says, but for `except`.
    pub(super) fn advance(&mut self, config: &Arc<Config>, except: BTreeMap<Arc<str>, Has>) {
        self.served = config.clone();
        self.except = except;
    }

    /// Notes that one resource took the place of what the client had.
    pub(super) fn replace(&mut self, old: &Has, new: Option<&Resource>) {
        self.digest = self.digest.wrapping_sub(old.digest()).wrapping_add(new.map_or(0, |r| r.digest));
    }

    /// Notes what the client has under a name.
    pub(super) fn set(&mut self, kind: ResourceType, name: &Arc<str>, has: Has) {
        self.replace(&self.of(kind, name), None);
        self.digest = self.digest.wrapping_add(has.digest());
        self.except.insert(name.clone(), has);
    }

    /// What of it is under these names, and nothing else.
    #[must_use]
    pub(super) fn restricted(&self, kind: ResourceType, names: &NameSet) -> Self {
        let except: BTreeMap<_, _> = names.iter().map(|n| (n.clone(), self.of(kind, n))).collect();
        let digest = except.values().fold(0u128, |sum, has| sum.wrapping_add(has.digest()));
        Self { served: Arc::default(), except, digest }
    }

    /// What a client has that comes with versions from an earlier stream, as far as it subscribes to it.
    pub(super) fn reported(
        kind: ResourceType,
        config: &Arc<Config>,
        versions: &BTreeMap<String, String>,
        names: Option<&NameSet>,
    ) -> Self {
        let mut holding = Self { served: config.clone(), ..Self::default() };
        let mut note = |name: &Arc<str>| {
            let has = match (versions.get(&**name), config.get(kind, name)) {
                (None, _) => Has::Nothing,
                (Some(version), Some(now)) if now.is_version(version) => Has::This(now.clone()),
                (Some(version), _) => Has::named(name, version),
            };
            holding.digest = holding.digest.wrapping_add(has.digest());
            if !matches!(has, Has::This(_)) {
                holding.except.insert(name.clone(), has);
            }
        };
        match names {
            Some(names) => names.iter().for_each(&mut note),
            None => {
                let gone = versions.keys().filter(|name| config.get(kind, name).is_none());
                config.all(kind).for_each(|r| note(&r.name));
                gone.for_each(|name| note(&name.as_str().into()));
            }
        }
        holding
    }

    /// What a client has that took this version of exactly these resources; `None` where the version is another.
    pub(super) fn versioned<'a>(
        config: &Arc<Config>,
        version: &str,
        wanted: impl Iterator<Item = &'a Arc<Resource>>,
    ) -> Option<Self> {
        let digest = wanted.fold(0u128, |sum, r| sum.wrapping_add(r.digest));
        let holding = Self { served: config.clone(), except: BTreeMap::new(), digest };
        (holding.version() == version).then_some(holding)
    }
}

/// The endpoints of a cluster that has none, where absence has to be told.
pub(super) fn no_endpoints(cluster: &Arc<str>) -> Arc<Resource> {
    let message = ClusterLoadAssignment { cluster_name: cluster.to_string(), ..Default::default() };
    Arc::new(Resource::new(ResourceType::Endpoints, cluster.clone(), message.encode_to_vec(), Vec::new()))
}
