//! Load balancers.

use crate::{
    api::destination_rule as api,
    model::{HashKey, HashTable, LoadBalancer, LoadBalancerKind, Locality, LocalityBalancing, Warmup, ZoneAware},
    parse::value::{Findings, shared},
    problem::FieldPath,
};
use std::{collections::BTreeSet, sync::Arc};

/// Envoy's greatest maglev table.
const MAX_MAGLEV: u64 = 5_000_011;
/// Envoy's greatest hash ring.
const MAX_RING: u64 = 8_388_608;
/// What Istio takes for a ring where nothing is said.
const DEFAULT_RING: u64 = 1024;

/// Reads `loadBalancer`.
pub(in crate::parse) fn load_balancer(
    found: &mut Findings<'_>,
    path: &FieldPath,
    balancer: Option<&api::LoadBalancer>,
) -> Option<LoadBalancer> {
    let balancer = balancer?;
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        found.error(path, "has both simple and consistentHash, of which only one can be; leave one out");
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        found.warn(
            &path.field("localityLbSetting"),
            "has no effect beside zoneAwareLbSetting, which takes its place; leave one out",
        );
    }
    let kind = match (&balancer.consistent_hash, balancer.simple) {
        (Some(hash), _) => consistent_hash(found, &path.field("consistentHash"), hash),
        (None, Some(api::SimpleBalancer::Random)) => LoadBalancerKind::Random,
        (None, Some(api::SimpleBalancer::RoundRobin)) => LoadBalancerKind::RoundRobin,
        (None, Some(api::SimpleBalancer::Passthrough)) => LoadBalancerKind::Passthrough,
        _ => LoadBalancerKind::LeastRequest,
    };
    Some(LoadBalancer {
        kind,
        locality: balancer.locality_lb_setting.as_ref().map(|l| locality(found, &path.field("localityLbSetting"), l)),
        zone_aware: balancer
            .zone_aware_lb_setting
            .as_ref()
            .map(|z| zone_aware(found, &path.field("zoneAwareLbSetting"), z)),
        warmup: warmup(found, path, balancer),
    })
}

fn warmup(found: &mut Findings<'_>, path: &FieldPath, balancer: &api::LoadBalancer) -> Option<Warmup> {
    let old = path.field("warmupDurationSecs");
    let Some(warmup) = &balancer.warmup else {
        let window = found.positive_duration(&old, balancer.warmup_duration_secs.as_ref())?;
        return Some(Warmup { window, shape: None });
    };
    if balancer.warmup_duration_secs.is_some() {
        found.warn(&old, "has no effect beside warmup, which takes its place; leave it out");
    }
    let path = path.field("warmup");
    let percent = found.millionths(&path.field("minimumPercent"), warmup.minimum_percent, 100.0);
    let aggression = found.millionths(&path.field("aggression"), warmup.aggression, 1e6);
    if aggression == Some(0) {
        found.error(&path.field("aggression"), "must be greater than 0; write 1 for a share that grows evenly");
    }
    if warmup.duration.is_none() {
        found.error(&path.field("duration"), "is missing; write how long new endpoints warm up, such as 30s");
    }
    let window = found.positive_duration(&path.field("duration"), warmup.duration.as_ref())?;
    Some(Warmup { window, shape: Some((percent.unwrap_or(10_000_000), aggression.unwrap_or(1_000_000))) })
}

fn consistent_hash(found: &mut Findings<'_>, path: &FieldPath, hash: &api::ConsistentHash) -> LoadBalancerKind {
    let key = hash_key(found, path, hash);
    let table = hash_table(found, path, hash);
    key.map_or(LoadBalancerKind::LeastRequest, |key| LoadBalancerKind::Hash { key, table })
}

fn hash_key(found: &mut Findings<'_>, path: &FieldPath, hash: &api::ConsistentHash) -> Option<HashKey> {
    let mut keys = Vec::new();
    keys.extend(hash.http_header_name.as_deref().map(|n| HashKey::Header(n.into())));
    keys.extend(hash.http_query_parameter_name.as_deref().map(|n| HashKey::QueryParameter(n.into())));
    keys.extend(hash.use_source_ip.filter(|on| *on).map(|_| HashKey::SourceIp));
    if let Some(cookie) = &hash.http_cookie {
        keys.push(cookie_key(found, &path.field("httpCookie"), cookie));
    }
    match keys.len() {
        0 => found.error(
            path,
            "does not say what is hashed; set one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName",
        ),
        1 => {}
        _ => found.error(path, "hashes several things, of which only one can be; leave one of them"),
    }
    let empty = |key: &&HashKey| matches!(key, HashKey::Header(n) | HashKey::QueryParameter(n) if n.is_empty());
    if keys.iter().find(empty).is_some() {
        found.error(path, "hashes a header or parameter without a name; write its name");
    }
    keys.into_iter().next()
}

fn cookie_key(found: &mut Findings<'_>, path: &FieldPath, cookie: &api::HttpCookie) -> HashKey {
    if cookie.name.is_empty() {
        found.error(&path.field("name"), "is missing; write the cookie's name");
    }
    let mut seen = BTreeSet::new();
    for (at, attribute) in cookie.attributes.iter().enumerate() {
        let path = path.field("attributes").index(at).field("name");
        if attribute.name.is_empty() {
            found.error(&path, "is missing; write the attribute's name, such as SameSite");
        } else if !seen.insert(&attribute.name) {
            found.error(&path, format!("`{}` is given twice; leave one", attribute.name));
        }
    }
    HashKey::Cookie {
        name: cookie.name.as_str().into(),
        path: cookie.path.as_str().into(),
        ttl: found.duration(&path.field("ttl"), cookie.ttl.as_ref()),
        attributes: cookie.attributes.iter().map(|a| (a.name.as_str().into(), a.value.as_str().into())).collect(),
    }
}

fn hash_table(found: &mut Findings<'_>, path: &FieldPath, hash: &api::ConsistentHash) -> HashTable {
    let old = path.field("minimumRingSize");
    if hash.minimum_ring_size != 0 {
        match hash.ring_hash.is_some() || hash.maglev.is_some() {
            true => found.error(&old, "stands beside ringHash or maglev, which take its place; leave it out"),
            false => found.warn(&old, "is the old form; write ringHash: {minimumRingSize: …}"),
        }
    }
    let mut ring = |path: &FieldPath, size: u64| {
        if size > MAX_RING {
            found.error(path, format!("{size} is more than a ring can have; write at most {MAX_RING}"));
        }
        HashTable::Ring(size)
    };
    match (&hash.maglev, &hash.ring_hash) {
        (Some(maglev), _) => {
            let path = path.field("maglev").field("tableSize");
            if maglev.table_size > MAX_MAGLEV {
                found.error(
                    &path,
                    format!("{} is too large; write a prime number up to {MAX_MAGLEV}", maglev.table_size),
                );
            } else if maglev.table_size != 0 && !is_prime(maglev.table_size) {
                found.error(&path, format!("{} is not a prime number; write one, such as 65537", maglev.table_size));
            }
            HashTable::Maglev(maglev.table_size)
        }
        (None, Some(r)) => ring(&path.field("ringHash").field("minimumRingSize"), r.minimum_ring_size),
        (None, None) if hash.minimum_ring_size == 0 => HashTable::Ring(DEFAULT_RING),
        (None, None) => ring(&old, hash.minimum_ring_size),
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

/// Reads `localityLbSetting`.
pub(in crate::parse) fn locality(
    found: &mut Findings<'_>,
    path: &FieldPath,
    setting: &api::LocalityBalancer,
) -> LocalityBalancing {
    if !setting.distribute.is_empty() && (!setting.failover.is_empty() || !setting.failover_priority.is_empty()) {
        found
            .error(path, "has distribute beside failover or failoverPriority, of which only one can be; leave one out");
    }
    let mut distribute = Vec::new();
    for (at, entry) in setting.distribute.iter().enumerate() {
        let path = path.field("distribute").index(at);
        place(found, &path.field("from"), &entry.from);
        let total: u64 = entry.to.values().map(|w| u64::from(*w)).sum();
        if total != 100 {
            found.error(&path.field("to"), format!("has shares of {total} in all; write shares that are 100 together"));
        }
        for (to, share) in &entry.to {
            place(found, &path.field("to").key(to), to);
            if *share == 0 {
                found.error(&path.field("to").key(to), "has a share of 0; leave the place out");
            }
        }
        distribute
            .push((entry.from.as_str().into(), entry.to.iter().map(|(to, w)| (to.as_str().into(), *w)).collect()));
    }
    LocalityBalancing {
        off: setting.enabled == Some(false),
        distribute,
        failover: failover(found, &path.field("failover"), &setting.failover),
        priority: shared(&setting.failover_priority),
    }
}

/// Reads `zoneAwareLbSetting`.
pub(in crate::parse) fn zone_aware(
    found: &mut Findings<'_>,
    path: &FieldPath,
    setting: &api::ZoneAwareBalancer,
) -> ZoneAware {
    ZoneAware {
        off: setting.enabled == Some(false),
        failover: failover(found, &path.field("failover"), &setting.failover),
        priority: shared(&setting.failover_priority),
        min_cluster_size: setting.min_cluster_size,
    }
}

fn failover(found: &mut Findings<'_>, path: &FieldPath, list: &[api::Failover]) -> Vec<(Arc<str>, Arc<str>)> {
    for (at, entry) in list.iter().enumerate() {
        let path = path.index(at);
        for (name, region) in [("from", &entry.from), ("to", &entry.to)] {
            if region.is_empty() || region.contains(['/', '*']) {
                found.error(
                    &path.field(name),
                    format!("`{region}` is not a region; write the name of one, such as us-east1"),
                );
            }
        }
        if !entry.from.is_empty() && entry.from == entry.to {
            found.error(&path.field("to"), format!("`{}` cannot take over for itself; name another region", entry.to));
        }
    }
    list.iter().map(|f| (f.from.as_str().into(), f.to.as_str().into())).collect()
}

/// Checks the pattern of a place: `region/zone/subzone`, where the last part may be `*`.
fn place(found: &mut Findings<'_>, path: &FieldPath, text: &str) {
    let parts: Vec<&str> = text.split('/').collect();
    let star = parts.iter().position(|p| *p == "*");
    let wrong = parts.len() > 3
        || parts.iter().any(|p| p.is_empty() || (p.contains('*') && *p != "*"))
        || star.is_some_and(|at| at + 1 < parts.len());
    if wrong || Locality::parse(text).is_empty() {
        found.error(path, format!("`{text}` is not a place; write region/zone/subzone, of which the last may be *"));
    }
}
