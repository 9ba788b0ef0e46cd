//! Namespace tests: the real binary as PID 1 under unshare.
