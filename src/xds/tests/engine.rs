//! What the engine shares and forgets.
