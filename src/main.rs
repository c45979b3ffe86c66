//! The mainsheet binary.

fn main() {}
