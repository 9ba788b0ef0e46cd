//! The real image in QEMU: what a node does from power on to power off, seen from outside.
//!
//! Each test has a disk of its own: a new one, or where the first boot is not the matter a copy of one that was booted
//! once; where no boot is the matter it has a node that runs already. A boot takes some twenty seconds without KVM, so
//! what can be seen in one boot is seen in one. `cargo xtask test vm` builds the image and runs these two at a time.

mod vm {
    mod api;
    mod bad_disks;
    mod bad_input;
    mod in_force;
    mod kubelet_model;
    mod life;
    mod limits;
    mod live;
    mod manifests;
    mod mounts;
    mod network;
    mod reset;
    mod settings;
    mod sources;
    mod status;
    mod support;
    mod surface;
    mod watchdog;
}
