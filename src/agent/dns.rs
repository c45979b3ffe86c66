//! Names of the mesh, which the agent answers for by the table that the control plane has of them; all others are the
//! pod's resolvers' (reference: `pkg/dns` of Istio).

mod answer;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod upstream;

pub(super) use server::{Server, bind};
pub(super) use table::{Place, Table};
pub(super) use upstream::Resolvers;
