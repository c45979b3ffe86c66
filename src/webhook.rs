//! What the API server asks before it takes an object: pods get their sidecar, and objects that cannot be served are
//! refused.
//!
//! The core is pure: [`Injector::inject`] makes a pod of a pod, by the templates of [`Settings`]; [`patch`] says what is
//! different; [`validate`] asks the parser. The same code serves the webhook and `mainsheet inject`. Around it [`follow`]
//! keeps what injection depends on, and [`routes`] answers requests.

mod admit;
mod alone;
mod annotation;
mod arrange;
mod decision;
pub mod file;
mod follow;
mod image;
mod inject;
mod merge;
mod metrics;
mod openshift;
mod overlay;
mod owner;
mod patch;
mod probe;
mod proof;
mod proxies;
mod proxy_config;
mod review;
mod scrape;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod validate;

pub use admit::{Outcome, admit};
pub use annotation::problems as annotation_problems;
pub use follow::{Native, Options, State, follow};
pub use inject::{Injector, Request, mesh};
pub use metrics::Metrics;
pub use openshift::Users;
pub use owner::Owner;
pub use patch::patch;
pub use proof::prove;
pub use proxies::Proxies;
pub use review::{Review, Verdict};
pub use server::{Webhooks, routes};
pub use settings::{Policy, Selector, Settings};
pub use validate::{Found, validate};
