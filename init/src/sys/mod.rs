//! The one door to the kernel: a function is one or two system calls and puts the path into its error.

pub(crate) mod file;
pub(crate) mod mount;
