//! What a client has of one type: the configuration that it was last served, and the few names where it has
//! something else. Streams that are up to date hold nothing of their own.

use crate::{
    id::{ResourceType, fingerprint},
    translate::{Config, Resource},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a client has under one name.
#[derive(Clone, Debug)]
pub(super) enum Has {
    /// Nothing.
    Nothing,
    /// Something that is not of this process: it named a version that is not the current one.
    Stale,
    /// This.
    This(Arc<Resource>),
}

impl Has {
    pub(super) fn is(&self, resource: &Resource) -> bool {
        matches!(self, Self::This(this) if this.version == resource.version)
    }

    fn digest(&self) -> u128 {
        match self {
            Self::This(resource) => digest(resource),
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
        self.digest = self.digest.wrapping_sub(old.digest()).wrapping_add(new.map_or(0, digest));
    }

    /// Notes that the client may have anything under the names that it has something under.
    pub(super) fn doubt(&mut self, kind: ResourceType, wants: impl Fn(&str) -> bool) {
        let served = self.served.all(kind).map(|r| &r.name);
        let names: BTreeSet<_> = served.chain(self.except.keys()).filter(|n| wants(n)).cloned().collect();
        *self = Self { except: names.into_iter().map(|n| (n, Has::Stale)).collect(), ..Self::default() };
    }

    /// What of it is under these names, and nothing else.
    #[must_use]
    pub(super) fn restricted(&self, kind: ResourceType, names: &BTreeSet<Arc<str>>) -> Self {
        let except: BTreeMap<_, _> = names.iter().map(|n| (n.clone(), self.of(kind, n))).collect();
        let digest = except.values().fold(0u128, |sum, has| sum.wrapping_add(has.digest()));
        Self { served: Arc::default(), except, digest }
    }

    /// What a client has that comes with versions from an earlier stream, as far as it subscribes to it.
    pub(super) fn reported(
        kind: ResourceType,
        config: &Arc<Config>,
        versions: &BTreeMap<String, String>,
        names: Option<&BTreeSet<Arc<str>>>,
    ) -> Self {
        let mut holding = Self { served: config.clone(), ..Self::default() };
        let mut note = |name: &Arc<str>| {
            let has = match (versions.get(&**name), config.get(kind, name)) {
                (None, _) => Has::Nothing,
                (Some(version), Some(now)) if *version == now.version_text() => Has::This(now.clone()),
                (Some(_), _) => Has::Stale,
            };
            match has {
                Has::This(now) => holding.digest = holding.digest.wrapping_add(digest(&now)),
                other => drop(holding.except.insert(name.clone(), other)),
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
        let digest = wanted.fold(0u128, |sum, r| sum.wrapping_add(digest(r)));
        let holding = Self { served: config.clone(), except: BTreeMap::new(), digest };
        (holding.version() == version).then_some(holding)
    }
}

fn digest(resource: &Resource) -> u128 {
    fingerprint(&(&resource.name, resource.version))
}
