//! The decisions of Podium's PID 1. Text and events go in, plans and actions come out.
//!
//! Principles:
//! - Nothing in this library performs an effect, reads a clock, or blocks. The binary (`main.rs`, `boot.rs`,
//!   `reactor.rs`, `halt.rs`, `sys/`) does that, and only that.
//! - A decision never fails: bad input becomes a value that says what was wrong, where, and how to mend it.
//! - Every queue, buffer and list is bounded, and the bound stands beside it with its reason.
//!
//! The modules in the order in which a boot passes through them:

pub mod archives;
pub mod base64;
pub mod bolt;
pub mod cmdline;
pub mod config;
pub mod digest;
pub mod paths;
pub mod store;

pub mod blockdev;
pub mod input;
pub mod modules;
pub mod mounts;
pub mod superblock;
pub mod sysctls;
pub mod uevent;

pub mod manifests;
pub mod render;
pub mod services;

pub mod backoff;
pub mod checkpoints;
pub mod clock;
pub mod console;
pub mod control;
pub mod crilog;
pub mod events;
pub mod kernellog;
pub mod live;
pub mod loglines;
pub mod metadata;
pub mod notices;
pub mod podstate;
pub mod shutdown;
pub mod staticpods;
pub mod supervisor;
pub mod unmounts;
pub mod usage;
pub mod watchdog;
pub mod words;
