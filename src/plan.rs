//! Offline: what the files would mean, without a running control plane. Translate for one proxy, validate, and
//! hold translations against golden files.

mod authorization;
#[cfg(test)]
mod fields;
mod golden;
mod proxy;
mod served;
mod world;

pub use authorization::Rules;
pub use golden::{Outcome, golden};
pub use proxy::{Proxy, ProxyError};
pub use served::Listing;
pub use world::World;
