//! From an image definition to bytes: `image.yaml` in, a disk that boots out.
//!
//! Principles:
//! - The same input gives the same bytes. Nothing of this machine (paths, users, umask, clock) reaches the image.
//! - Nothing is made twice: components are kept by content in a cache, outputs by the key of their inputs.
//! - Any user can do it: no root, no mounts, no change to the host.
//! - What others do well is run as a program or linked as a library; each command is printed before it runs.
//!
//! The modules in the order in which an image passes through them:

pub mod definition;
pub mod host;

pub mod lock;
pub mod packages;
pub mod sources;

pub mod apt;
pub mod cache;
pub mod deb;

pub mod compile;
pub mod kernel;
pub mod kubelet;
pub mod libraries;
pub mod licences;
pub mod modules;
pub mod oci;

pub mod checks;
pub mod rootfs;
pub mod tree;

pub mod build;
pub mod cpio;
pub mod disk;
pub mod reproducible;

pub mod progress;
pub mod report;
pub mod run;
