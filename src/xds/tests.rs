//! The protocol without sockets, the engine against full recomputation, and a few streams over real gRPC.

mod delta;
mod engine;
mod grpc;
mod hosts;
mod incremental;
mod order;
mod peer;
mod refusal;
mod sotw;
mod world;
