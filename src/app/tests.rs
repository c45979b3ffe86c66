//! The control plane as a whole, on sockets of the loopback device.

mod secure;
