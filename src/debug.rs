//! d
mod registry;
