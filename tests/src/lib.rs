//! The harness of the black-box tests: what is needed to run the real thing and to look at it from outside.
//!
//! Nothing here knows how Podium works inside. It starts the machine, reads its console, talks to it as a client on
//! the network would, and opens its disk after power off. `cargo xtask run` and `bench` use the same parts, so what
//! a person sees is what the tests see.

pub mod artifacts;
pub mod build;
pub mod console;
pub mod damage;
pub mod disk;
pub mod faults;
pub mod fields;
pub mod firmware;
pub mod frozen;
mod gate;
pub mod gauge;
pub mod hand;
pub mod http;
pub mod inline;
pub mod kubelet_model;
pub mod lan;
pub mod machine;
pub mod markers;
pub mod ns;
pub mod operator;
mod processor;
pub mod qemu;
pub mod qmp;
pub mod react;
pub mod readme;
pub mod running;
pub mod schema;
pub mod tamper;
pub mod used;
