//! The real image in QEMU: what a node does from power on to power off, seen from outside.
//!
//! Each test has a disk of its own. A boot takes some twenty seconds without KVM, so what can be seen in one boot is
//! seen in one. `cargo xtask test vm` builds the image and runs these two at a time.

mod vm {
    mod bad_input;
    mod life;
    mod live;
    mod manifests;
    mod settings;
    mod sources;
    mod status;
    mod support;
}
