//! Tests against a real Kubernetes API server, with etcd behind it and nothing beside: no controller changes what a test
//! has written. They need the programs that `make cluster-tools` builds once; without them they fail and say so.

mod controllers;
mod cost;
mod deploy;
mod equality;
mod harness;
mod identity;
mod install;
mod kinds;
mod machines;
mod process;
mod replicas;
mod soak;
mod trouble;
mod webhook;
