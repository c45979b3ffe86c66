//! What has no effect of the objects that define a host, because another object defines it too.

use super::View;
use crate::{
    id::{Kind, ObjectRef},
    model::Service,
    problem::{FieldPath, Problem},
};

impl View<'_> {
    /// What is without effect of the other objects for a service's host that the view's nodes see. Namespaces may well
    /// have ServiceEntries of their own for one host; two within a namespace, and an entry beside a Kubernetes Service,
    /// are more likely a mistake.
    pub fn overruled(&self, service: &Service) -> Vec<Problem> {
        let mut problems = Vec::new();
        for claim in self.snapshot.claims_of(&service.host).iter().filter(|c| c.source != service.source) {
            let rivals = claim.namespace == service.namespace || claim.registry != service.registry;
            match service.merged.contains(&claim.source) {
                true => problems.extend(other_ports(service, claim)),
                false if rivals && self.sees_service(claim) => problems.push(self.hidden(service, claim)),
                false => {}
            }
        }
        problems
    }

    fn hidden(&self, winner: &Service, loser: &Service) -> Problem {
        let whose = match winner.namespace == self.key.namespace {
            true => format!("for clients in {}", winner.namespace),
            false => "for clients in other namespaces".to_owned(),
        };
        let message = format!(
            "{} is defined by {} too, which counts instead {whose}; give one of the two another host, or an exportTo that \
             leaves these clients out",
            winner.host, winner.source
        );
        Problem::warning(&loser.source, path(&loser.source, "hosts"), message)
    }
}

/// The ports that an entry merged into a service would have otherwise.
fn other_ports<'a>(service: &'a Service, claim: &'a Service) -> impl Iterator<Item = Problem> + 'a {
    let differs = |number: u16| {
        let of = |s: &Service| s.port(number).map(|p| (p.name.clone(), p.protocol));
        of(service) != of(claim)
    };
    claim.ports.iter().filter(move |p| differs(p.number)).map(|port| {
        let message = format!(
            "port {} of {} has another name or protocol in {}, which is older and counts; let both say the same",
            port.number, claim.host, service.source
        );
        Problem::warning(&claim.source, path(&claim.source, "ports"), message)
    })
}

fn path(object: &ObjectRef, field: &str) -> FieldPath {
    match object.kind == Kind::SERVICE_ENTRY {
        true => FieldPath::new("spec").field(field),
        false => FieldPath::default(),
    }
}
