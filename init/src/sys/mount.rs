//! Mounts: make them, and say which are there.
