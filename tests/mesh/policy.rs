//! Policies before a real Envoy: each policy that mainsheet translates stands before a port of its own, and requests,
//! connections and tokens of all kinds are sent to it.

mod authorizers;
mod differential;
mod evaluator;
mod evasion;
mod fuzz;
mod matrix;
mod reach;
mod refusals;
mod rig;
mod schema;
mod token;
mod tokens;
