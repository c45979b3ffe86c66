//! Tests with real Envoys. They need root for network namespaces, and the Envoy that `make tools` installs;
//! without them they fail and say so.

mod capture;
#[path = "../../src/dice.rs"]
#[allow(dead_code, reason = "the tests of the library use the rest")]
mod dice;
mod fuzz;
#[path = "harness/harness.rs"]
#[allow(dead_code, unused_imports, reason = "the demo uses the rest")]
mod harness;
mod identity;
mod oracle;
mod policy;
mod testbed;
mod traffic;
