//! What a config and a foreign process do to the manifest directory of a running node, with the real kubelet behind it.
//!
//! What the kubelet ends our pod for comes last. What is asked: the pods of the config run on as the same processes, or
//! where the kubelet has killed one already it is brought back; a manifest of Podium's is put back as it was; and
//! afterwards the kubelet still takes a new manifest, for one that hangs looks alive.

mod by_config;
mod foreign;

use super::running::{FOLDER, LIMIT, Node, OURS, OWN_LIMIT, fault};
use super::support::shown;
use anyhow::Result;
use podium_tests::faults::{Fault, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// All of this folder.
pub(super) fn faults(node: &Arc<Shared<Node>>) -> Vec<Fault> {
    let by_config = by_config::MANIFESTS.iter().map(|row| fault(node, "manifests", row));
    let tried = by_config::CONFIG.iter().map(|row| fault(node, "config", row));
    let foreign = foreign::ACTS.iter().map(|row| fault(node, "manifests", row));
    by_config.chain(tried).chain(foreign).collect()
}

impl Node {
    /// A manifest of somebody else's, in one step; then all is as before.
    fn dropped(&self, name: &str, text: &[u8]) -> Result<String> {
        self.hand.replace(&format!("{FOLDER}/{name}"), text)?;
        self.is_unharmed()
    }

    /// Podium has put its own manifest back.
    fn is_put_back(&self) -> Result<()> {
        self.hand.wait("our manifest is as it was", OWN_LIMIT, |hand| {
            Ok((hand.read(OURS)?.as_bytes() == self.ours).then_some(()))
        })
    }

    /// What was at `name` is out of the kubelet's sight or ours again, and our pod runs as the config has it.
    fn returns(&self, name: &str) -> Result<String> {
        self.kills.fetch_add(1, Ordering::Relaxed);
        let is_ours = OURS.ends_with(name);
        self.hand.wait("it is out of the kubelet's sight", OWN_LIMIT, |hand| {
            Ok((is_ours || !hand.list(FOLDER)?.iter().any(|each| each == name)).then_some(()))
        })?;
        let line = self.hand.reads(&self.machine.console, 0, name, OWN_LIMIT)?;
        let more = self.takes_more()?;
        self.hand.wait("our pod in place of the other", LIMIT, |hand| {
            let is_bad = hand.process("guest", "ours-bad").is_ok();
            hand.process("guest", "ours-1").map(|_| (!is_bad).then_some(()))
        })?;
        Ok(format!("{}; our pod runs, {more}", shown(&line)))
    }
}
