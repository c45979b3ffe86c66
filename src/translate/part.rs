//! Parts, and how they follow the world: a part is built once and then only its affected units are built anew.

use super::{Built, Piece, Renderer, Resource, cluster, endpoint, listener, names, on_demand::Reserve, route, secret};
use crate::{
    id::{Host, ResourceType},
    model::{Node, Role},
    problem::Problem,
    snapshot::{Delta, KeptHeaders, Snapshot, View, ViewKey},
};
use imbl::{OrdMap, ordmap::DiffItem};
use std::{collections::BTreeSet, sync::Arc};

/// The kinds of parts, each with its own idea of what a key is made of and what a unit is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PartKind {
    /// Outbound clusters; a unit is a host.
    Clusters,
    /// Endpoints of outbound clusters; a unit is a host.
    Endpoints,
    /// Outbound listeners; a unit is a port. Of gateways: all listeners, each a unit.
    Listeners,
    /// Outbound routes; a unit is what requests to a host on a port need, and a port puts these together. Of gateways:
    /// a unit is a route configuration.
    Routes,
    /// Inbound listeners and clusters; one unit.
    Inbound,
    /// Certificates, keys and authorities; a unit is a secret by the name that it is asked for by.
    Secrets,
    /// The names that an agent resolves; one unit, where it does.
    Names,
}

/// What is built on its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unit {
    /// What is always there.
    Fixed,
    /// What a host needs.
    Host(Host),
    /// What a port needs.
    Port(u16),
    /// What requests to a host on a port need.
    Requests(u16, Host),
    /// What the resource of this name needs.
    Name(Arc<str>),
}

impl Unit {
    /// The port that it is of.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) | Self::Requests(port, _) => Some(*port),
            Self::Fixed | Self::Host(_) | Self::Name(_) => None,
        }
    }
}

/// Which units a difference affects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Affected {
    /// All of them.
    All,
    /// These.
    Units(BTreeSet<Unit>),
}

impl PartKind {
    /// All kinds, in the order in which a proxy needs them.
    pub const ALL: [PartKind; 7] =
        [Self::Clusters, Self::Endpoints, Self::Listeners, Self::Routes, Self::Inbound, Self::Secrets, Self::Names];

    /// What of a node's whole key a part of this kind depends on. Nodes that differ elsewhere share it.
    pub fn key(self, whole: &ViewKey) -> ViewKey {
        let place = matches!(self, Self::Endpoints) || (matches!(self, Self::Names) && whole.resolves);
        let face = matches!(self, Self::Listeners | Self::Inbound);
        let targets = matches!(self, Self::Inbound);
        let entrance = matches!(self, Self::Listeners | Self::Routes);
        let sends = matches!(self, Self::Clusters | Self::Endpoints);
        let resolves = matches!(self, Self::Listeners | Self::Routes | Self::Names);
        ViewKey {
            place: whole.place.clone().filter(|_| place),
            face: whole.face.clone().filter(|_| face),
            mtls: whole.mtls.clone().filter(|_| targets),
            policies: whole.policies.clone().filter(|_| match whole.role {
                Role::Router => matches!(self, Self::Listeners),
                Role::Sidecar => matches!(self, Self::Inbound),
            }),
            targets: whole.targets.clone().filter(|_| targets),
            ips: whole.ips.clone().filter(|_| targets),
            entrance: whole.entrance.clone().filter(|_| entrance),
            auto_passthrough: whole.auto_passthrough && sends,
            secrets: whole.secrets.clone().filter(|_| matches!(self, Self::Secrets)),
            sends_by_route: whole.sends_by_route.clone().filter(|_| sends),
            resolves: whole.resolves && resolves,
            headers: match self {
                Self::Clusters | Self::Inbound => whole.headers.of_clusters(),
                Self::Routes => whole.headers.of_routes(),
                _ => KeptHeaders::default(),
            },
            forward_proxy: whole.forward_proxy && matches!(self, Self::Routes),
            virtual_hosts: whole.virtual_hosts && matches!(self, Self::Routes),
            on_demand: whole.on_demand && matches!(self, Self::Clusters | Self::Listeners | Self::Routes),
            ..whole.clone()
        }
    }

    fn units(self, view: &View<'_>) -> BTreeSet<Unit> {
        match self {
            Self::Clusters => cluster::units(view),
            Self::Endpoints => endpoint::units(view),
            Self::Listeners if view.key.role == Role::Router => listener::gateway::units(view),
            Self::Listeners => listener::outbound::units(view),
            Self::Routes => route::units(view),
            Self::Inbound => BTreeSet::from([Unit::Fixed]),
            Self::Secrets => secret::units(view),
            Self::Names => names::units(view),
        }
    }

    fn affected(self, old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
        match self {
            _ if delta.whole => Affected::All,
            Self::Clusters => cluster::affected(old, new, delta),
            Self::Endpoints => endpoint::affected(old, new, delta),
            Self::Listeners if new.key.role == Role::Router => listener::gateway::affected(old, new, delta),
            Self::Listeners => listener::outbound::affected(old, new, delta),
            Self::Routes => route::affected(old, new, delta),
            Self::Inbound => listener::inbound::affected(new, delta),
            Self::Secrets => secret::affected(new, delta),
            Self::Names => names::affected(old, new, delta),
        }
    }

    fn build(self, view: &View<'_>, units: BTreeSet<Unit>, renderer: &dyn Renderer) -> Vec<(Unit, Built)> {
        match self {
            Self::Routes => route::build(view, units, renderer),
            _ => units.into_iter().map(|unit| (unit.clone(), self.build_one(view, &unit, renderer))).collect(),
        }
    }

    fn build_one(self, view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
        match self {
            Self::Clusters => cluster::build(view, unit, renderer),
            Self::Endpoints => endpoint::build(view, unit, renderer),
            Self::Listeners if view.key.role == Role::Router => listener::gateway::build(view, unit, renderer),
            Self::Listeners => listener::outbound::build(view, unit, renderer),
            Self::Routes => Built::default(),
            Self::Inbound => listener::inbound::build(view, renderer),
            Self::Secrets => secret::build(view, unit, renderer),
            Self::Names => names::build(view, renderer),
        }
    }

    /// Whether a difference may affect parts of this kind at all: what [`PartKind::affected`] looks at is not empty.
    fn may_change(self, key: &ViewKey, delta: &Delta) -> bool {
        let rules = !delta.destination_rules.is_empty();
        let routing = !delta.services.is_empty() || !delta.virtual_services.is_empty();
        let served = routing || !delta.endpoints.is_empty();
        delta.whole
            || match self {
                Self::Clusters | Self::Endpoints => served || rules || !delta.peers.is_empty(),
                Self::Listeners | Self::Routes => served || rules,
                Self::Inbound => rules,
                Self::Secrets => key.secrets.is_some() && (rules || !delta.secrets.is_empty()),
                Self::Names => key.resolves && served,
            }
    }

    /// The unit that is put together from a unit and others.
    fn whole(self, unit: &Unit) -> Option<Unit> {
        match (self, unit) {
            (Self::Routes, Unit::Requests(port, _)) => Some(Unit::Port(*port)),
            _ => None,
        }
    }

    /// Whether a unit is put together from others.
    fn is_whole(self, unit: &Unit) -> bool {
        matches!((self, unit), (Self::Routes, Unit::Port(_)))
    }
}

type Table = OrdMap<Arc<str>, Arc<Resource>>;

/// What nodes with one key are served of one kind. Parts that follow one another share what did not change.
#[derive(Clone, Debug)]
pub struct Part {
    /// The kind.
    pub kind: PartKind,
    /// Who is served.
    pub key: Arc<ViewKey>,
    units: OrdMap<Unit, Arc<Built>>,
    /// What is sent to all that ask for everything.
    tables: [Table; ResourceType::ALL.len()],
    /// What is sent to those alone that ask for it.
    pub(super) reserve: Reserve,
}

impl Part {
    fn empty(kind: PartKind, key: Arc<ViewKey>) -> Self {
        Self { kind, key, units: OrdMap::new(), tables: Default::default(), reserve: Reserve::default() }
    }

    /// Builds the part from nothing.
    pub fn build(kind: PartKind, key: Arc<ViewKey>, snapshot: &Snapshot, renderer: &dyn Renderer) -> Self {
        let empty = Self::empty(kind, key.clone());
        let view = View::new(snapshot, &key);
        empty.rebuilt(&view, kind.units(&view), renderer).0.unwrap_or(empty)
    }

    /// The part after the world went from `old`, which it was built from, to `new`; `delta` is their difference.
    /// `None` where it stays as it is. Also tells how many units were built to find out.
    #[must_use]
    pub fn update(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        delta: &Delta,
        renderer: &dyn Renderer,
    ) -> (Option<Self>, usize) {
        let (before, now) = (View::new(old, &self.key), View::new(new, &self.key));
        let units = match self.kind.affected(&before, &now, delta) {
            Affected::Units(units) => units,
            Affected::All => self.units.keys().cloned().chain(self.kind.units(&now)).collect(),
        };
        self.rebuilt(&now, units, renderer)
    }

    /// Whether a difference may change the part: to say so is cheaper than to look, and where it is not so none does.
    pub fn may_change(&self, delta: &Delta) -> bool {
        self.kind.may_change(&self.key, delta)
    }

    /// The part after these units were built anew, and then what is put together from those that changed; `None` where
    /// it stays as it is. Also tells how many units were built.
    fn rebuilt(&self, view: &View<'_>, units: BTreeSet<Unit>, renderer: &dyn Renderer) -> (Option<Self>, usize) {
        let (mut wholes, units): (BTreeSet<Unit>, BTreeSet<Unit>) =
            units.into_iter().partition(|unit| self.kind.is_whole(unit));
        let count = units.len();
        let changed = self.changed(view, self.kind.build(view, units, renderer));
        wholes.extend(changed.iter().filter_map(|(unit, _)| self.kind.whole(unit)));
        let first = self.with(changed);
        let part = first.as_ref().unwrap_or(self);
        let count = count + wholes.len();
        let joined = wholes.into_iter().map(|unit| {
            let built = match unit {
                Unit::Port(port) => route::join(view, port, &part.pieces(port), renderer),
                _ => Built::default(),
            };
            (unit, built)
        });
        let second = part.with(part.changed(view, joined.collect()));
        (second.or(first), count)
    }

    /// Those of the units that are not like this already, with problems of the objects that users know.
    fn changed(&self, view: &View<'_>, mut built: Vec<(Unit, Built)>) -> Vec<(Unit, Built)> {
        for (_, built) in &mut built {
            built.problems = built.problems.drain(..).map(|p| view.snapshot.written(p)).collect();
            // A list that was made of another one may have the room of that.
            built.resources.shrink_to_fit();
        }
        built.retain(|(unit, built)| !self.has(unit, built));
        built
    }

    /// The part with these units; `None` where there are none.
    fn with(&self, changed: Vec<(Unit, Built)>) -> Option<Self> {
        if changed.is_empty() {
            return None;
        }
        let mut next = self.clone();
        // All that is gone goes first: a resource may have moved from one unit to another.
        for (unit, built) in &changed {
            let old = self.units.get(unit).map_or(&[][..], |old| &old.resources);
            next.withdraw(differing(old, &built.resources));
        }
        for (unit, built) in changed {
            let old = self.units.get(&unit).map_or(&[][..], |old| &old.resources);
            next.insert(differing(&built.resources, old));
            match built == Built::default() {
                true => drop(next.units.remove(&unit)),
                false => drop(next.units.insert(unit, Arc::new(built))),
            }
        }
        Some(next)
    }

    /// What the units of a port add to it, by host.
    fn pieces(&self, port: u16) -> Vec<(&Host, &Piece)> {
        let from = Unit::Requests(port, Host::from(""));
        let units = self.units.range(from..).map_while(|(unit, built)| match unit {
            Unit::Requests(on, host) if *on == port => Some((host, built)),
            _ => None,
        });
        units.filter_map(|(host, built)| Some((host, built.piece.as_ref()?))).collect()
    }

    /// A part that consists of these resources, wherever they come from.
    pub(crate) fn of(key: Arc<ViewKey>, resources: Vec<Arc<Resource>>) -> Self {
        let mut part = Self::empty(PartKind::Inbound, key);
        part.insert(&resources);
        part.units.insert(Unit::Fixed, Arc::new(Built { resources, ..Built::default() }));
        part
    }

    /// How many units there are.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Whether a unit already is this, also in what it comes from.
    fn has(&self, unit: &Unit, built: &Built) -> bool {
        let Some(old) = self.units.get(unit) else { return *built == Built::default() };
        let all = |of: &Built| -> Vec<Arc<Resource>> {
            of.resources.iter().chain(of.piece.iter().flat_map(|p| &p.resource)).cloned().collect()
        };
        **old == *built && all(old).iter().zip(&all(built)).all(|(a, b)| Arc::ptr_eq(a, b) || a.is_same(b))
    }

    fn withdraw(&mut self, resources: &[Arc<Resource>]) {
        for gone in resources {
            self.tables[gone.kind as usize].remove(&gone.name);
            if self.key.on_demand {
                self.reserve.remove(gone);
            }
        }
    }

    fn insert(&mut self, resources: &[Arc<Resource>]) {
        for resource in resources {
            if self.key.on_demand && self.reserve.insert(resource) {
                continue;
            }
            self.tables[resource.kind as usize].insert(resource.name.clone(), resource.clone());
        }
    }

    /// What translating for these nodes found wrong.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.units.values().flat_map(|b| &b.problems)
    }
}

/// Those of the first that the second may not have: what is left between a beginning and an end that both have. One
/// that changed among ten thousand in order is found without touching the others.
fn differing<'a>(all: &'a [Arc<Resource>], other: &[Arc<Resource>]) -> &'a [Arc<Resource>] {
    let same = |(a, b): &(&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(a, b);
    let start = all.iter().zip(other).take_while(same).count();
    let (all, other) = (&all[start..], &other[start..]);
    let end = all.iter().rev().zip(other.iter().rev()).take_while(same).count();
    &all[..all.len() - end]
}

/// All that one node is served: its parts.
#[derive(Clone, Debug, Default)]
pub struct Config {
    parts: Vec<Arc<Part>>,
}

impl Config {
    /// The configuration that consists of these parts.
    pub fn new(parts: Vec<Arc<Part>>) -> Self {
        Self { parts }
    }

    /// Translates everything for a node, from nothing.
    pub fn of(snapshot: &Snapshot, node: &Node, renderer: &dyn Renderer) -> Self {
        let whole = snapshot.view_key(node);
        let part = |kind: PartKind| Arc::new(Part::build(kind, Arc::new(kind.key(&whole)), snapshot, renderer));
        Self::new(PartKind::ALL.into_iter().map(part).collect())
    }

    /// This, and these resources beside it, which no part of it has.
    #[must_use]
    pub fn beside(&self, resources: Vec<Arc<Resource>>) -> Self {
        let whole = self.parts.first().map(|part| PartKind::Inbound.key(&part.key));
        let more = whole.map(|key| Arc::new(Part::of(Arc::new(key), resources)));
        Self::new(self.parts.iter().cloned().chain(more).collect())
    }

    /// The parts.
    pub fn parts(&self) -> &[Arc<Part>] {
        &self.parts
    }

    /// The resource of this type and name.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.parts.iter().find_map(|p| p.tables[kind as usize].get(name))
    }

    /// Every resource of a type that is sent to those alone that ask for it.
    pub fn reserved(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.parts.iter().flat_map(move |p| p.reserve.all(kind))
    }

    /// Every resource of a type that is sent to all that ask for everything, part by part and by name within.
    pub fn all(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.parts.iter().flat_map(move |p| p.tables[kind as usize].values())
    }

    /// Every resource of a type, by name.
    pub fn in_order(&self, kind: ResourceType) -> Vec<&Arc<Resource>> {
        let mut all: Vec<_> = self.all(kind).collect();
        let parts = self.parts.iter().filter(|p| !p.tables[kind as usize].is_empty());
        if parts.count() > 1 {
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
        all
    }

    /// How many resources of a type there are.
    pub fn count(&self, kind: ResourceType) -> usize {
        self.parts.iter().map(|p| p.tables[kind as usize].len()).sum()
    }

    /// What differs from `old` in a type: each name with what it now is, `None` where it is gone. The work is
    /// in proportion to the difference where the parts follow one another.
    pub fn changes(&self, old: &Config, kind: ResourceType) -> Vec<(Arc<str>, Option<Arc<Resource>>)> {
        let mut changes = Vec::new();
        let empty = Table::new();
        for at in 0..self.parts.len().max(old.parts.len()) {
            if let (Some(before), Some(now)) = (old.parts.get(at), self.parts.get(at))
                && (Arc::ptr_eq(before, now) || before.tables[kind as usize].ptr_eq(&now.tables[kind as usize]))
            {
                continue;
            }
            let table = |c: &Config| c.parts.get(at).map(|p| p.tables[kind as usize].clone());
            let (before, now) =
                (table(old).unwrap_or_else(|| empty.clone()), table(self).unwrap_or_else(|| empty.clone()));
            changes.extend(before.diff(&now).map(|item| match item {
                DiffItem::Remove(name, _) => (name.clone(), self.get(kind, name).cloned()),
                DiffItem::Add(name, new) | DiffItem::Update { new: (name, new), .. } => {
                    (name.clone(), Some(new.clone()))
                }
            }));
        }
        changes
    }

    /// What translating for this node found wrong, each once.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let all: BTreeSet<&Problem> = self.parts.iter().flat_map(|p| p.problems()).collect();
        all.into_iter()
    }
}
