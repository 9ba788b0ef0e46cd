//! What the tests share is in the harness, where the faults find it too.

pub(super) use podium_tests::machine::*;
pub(super) use podium_tests::running::{Running, on_a_running_node};
pub(super) use podium_tests::used::on_a_used_disk;
