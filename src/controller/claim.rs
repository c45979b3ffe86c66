//! Whether a lease may be taken: decided by what was seen of it, and by this machine's own clock alone. The times that
//! are written in a lease are those of other machines, and are never compared with anything but each other.

use std::time::Duration;
use tokio::time::Instant;

/// What a lease says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Record {
    /// Who holds it; empty when it was given back.
    pub(super) holder: String,
    /// The revision of the holder's control plane; empty for the default one.
    pub(super) revision: String,
    /// For how long it is held from each renewal on.
    pub(super) duration: Duration,
    /// What differs after each renewal.
    pub(super) version: String,
}

/// What is to be done about a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There is none: it can be made.
    Create,
    /// Nobody holds it, or somebody who must give way.
    Take,
    /// It is this replica's already.
    Renew,
    /// It is another's.
    Wait,
}

/// One replica's view of a lease.
#[derive(Debug)]
pub(super) struct Claim {
    me: String,
    revision: String,
    seen: Option<(Record, Instant)>,
}

impl Claim {
    pub(super) fn new(me: impl Into<String>, revision: impl Into<String>) -> Self {
        Self { me: me.into(), revision: revision.into(), seen: None }
    }

    /// What is to be done about a lease that was found so at `now`.
    pub(super) fn step(&mut self, found: Option<Record>, now: Instant) -> Step {
        let Some(found) = found else {
            self.seen = None;
            return Step::Create;
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == found => *since,
            _ => now,
        };
        let over = now.duration_since(since) >= found.duration;
        // The default control plane goes before those that are being tried.
        let gives_way = self.revision.is_empty() && !found.revision.is_empty();
        let step = match found.holder.as_str() {
            holder if holder == self.me => Step::Renew,
            "" => Step::Take,
            _ if over || gives_way => Step::Take,
            _ => Step::Wait,
        };
        self.seen = Some((found, since));
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(15);

    fn held(holder: &str, revision: &str, version: &str) -> Option<Record> {
        Some(Record { holder: holder.into(), revision: revision.into(), duration: TERM, version: version.into() })
    }

    #[test]
    fn a_lease_that_is_renewed_stays_with_its_holder() {
        let mut claim = Claim::new("b", "");
        let start = Instant::now();
        for round in 0..20 {
            let now = start + Duration::from_secs(10 * round);
            assert_eq!(claim.step(held("a", "", &round.to_string()), now), Step::Wait);
        }
    }

    #[test]
    fn a_lease_is_taken_once_its_holder_was_silent_for_its_time_as_seen_here() {
        let mut claim = Claim::new("b", "");
        let start = Instant::now();
        assert_eq!(claim.step(held("a", "", "1"), start), Step::Wait);
        assert_eq!(claim.step(held("a", "", "1"), start + TERM - Duration::from_millis(1)), Step::Wait);
        assert_eq!(claim.step(held("a", "", "1"), start + TERM), Step::Take);
        assert_eq!(claim.step(held("a", "", "2"), start + TERM * 3), Step::Wait, "it was renewed after all");
    }

    #[test]
    fn a_lease_that_was_given_back_or_is_not_there_is_taken_at_once() {
        let mut claim = Claim::new("b", "");
        let now = Instant::now();
        assert_eq!(claim.step(held("", "", "1"), now), Step::Take);
        assert_eq!(claim.step(None, now), Step::Create);
    }

    #[test]
    fn the_own_lease_is_renewed_also_by_a_process_that_was_started_again_under_its_name() {
        assert_eq!(Claim::new("a", "").step(held("a", "", "1"), Instant::now()), Step::Renew);
    }

    #[test]
    fn the_default_control_plane_goes_before_one_with_a_revision_and_not_the_other_way_round() {
        let now = Instant::now();
        assert_eq!(Claim::new("b", "").step(held("a", "canary", "1"), now), Step::Take);
        assert_eq!(Claim::new("b", "canary").step(held("a", "", "1"), now), Step::Wait);
        assert_eq!(Claim::new("b", "canary").step(held("a", "canary", "1"), now), Step::Wait);
    }
}
