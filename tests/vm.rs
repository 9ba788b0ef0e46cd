//! VM tests: the real image in QEMU.
