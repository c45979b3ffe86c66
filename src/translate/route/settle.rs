//! Domains that several virtual hosts of a port claim.

use super::select::Candidate;
use crate::{
    id::{Host, ObjectRef},
    problem::{FieldPath, Problem},
    translate::Piece,
};
use std::collections::{BTreeMap, BTreeSet};

/// The hosts that claim a domain which another one claims too. All others are as they are, whatever changes elsewhere.
pub(super) fn disputed<'a>(pieces: &[(&'a Host, &Piece)]) -> BTreeSet<&'a Host> {
    let claims = pieces.iter().enumerate().flat_map(|(at, (_, piece))| piece.claims.iter().map(move |c| (*c, at)));
    let mut claims: Vec<(u64, usize)> = claims.collect();
    claims.sort_unstable();
    let disputed = claims.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
    disputed.flatten().map(|(_, at)| pieces[*at].0).collect()
}

/// Gives each domain to the first that has it: a proxy refuses a RouteConfiguration with a domain twice. A short
/// name gives way to a service that really has that name.
pub(super) fn settle(candidates: &mut Vec<Candidate<'_>>, port: u16, problems: &mut BTreeSet<Problem>) {
    candidates.sort_by(|a, b| a.rank.cmp(&b.rank));
    let known: BTreeSet<String> =
        candidates.iter().filter(|c| c.service.is_some()).map(|c| c.host.to_string()).collect();
    let mut taken: BTreeMap<String, ObjectRef> = BTreeMap::new();
    for candidate in candidates.iter_mut() {
        let Some(source) = candidate.sources.first().cloned() else { continue };
        let short = std::mem::take(&mut candidate.domains.short);
        candidate.domains.all.retain(|domain| {
            if short.contains(domain) && known.contains(domain) {
                return false;
            }
            match taken.get(&domain.to_ascii_lowercase()) {
                None => {
                    taken.insert(domain.to_ascii_lowercase(), source.clone());
                    true
                }
                Some(winner) if *winner == source => false,
                Some(winner) => {
                    problems.insert(collision(&source, winner, domain, port));
                    false
                }
            }
        });
    }
    candidates.retain(|c| !c.domains.all.is_empty());
}

fn collision(loser: &ObjectRef, winner: &ObjectRef, domain: &str, port: u16) -> Problem {
    let message = format!(
        "requests for {domain} on port {port} go where {winner} says, which comes first; give the two different names \
         and addresses"
    );
    Problem::warning(loser, FieldPath::default(), message)
}
