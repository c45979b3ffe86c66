//! A few streams over real gRPC.
