//! Puts a checked config in force on the running node: settings, files, manifests, and what PID 1 is to know of it.
//!
//! Only what has changed is touched. A pod of which nothing changed keeps its file as it is, whatever else changes.

use crate::boot::Machine;
use crate::load;
use crate::prepare::{files, system};
use crate::stored::{Proposal, Vault};
use crate::sys::file;
use crate::{hook, manifest_dir};
use anyhow::{Context, Result};
use podium_init::config::{InUse, MachineConfig, Outcome};
use podium_init::live::{Applied, Change, Needs, PROOF_LIMIT, Standing, held_back, restarts};
use podium_init::paths;
use podium_init::services::{NodeFacts, Service};
use podium_init::staticpods::StaticPods;
use podium_init::store::Slot;
use std::path::Path;
use std::time::Duration;

/// `/run/podium/machine.json`, `pods.json` and the services' descriptions: all of them our own.
const OWN_FILE_MAX: usize = 16 << 20;

/// A config that is about to be in force.
pub(super) struct Next {
    pub(super) outcome: Outcome,
    pub(super) text: Vec<u8>,
    /// Where it came from.
    pub(super) source: String,
    pub(super) changes: Vec<Change>,
}

impl Next {
    /// In force for a time, not stored.
    pub(super) fn try_for(self, old: &InUse, limit: Duration) -> Result<Applied> {
        let in_use = InUse { tried: true, ..self.in_use(old, old.generation) };
        self.put(&in_use, Standing::Tried(limit))
    }

    /// In force as far as it goes: it has pods that cannot be run, so it is not kept for the next boot.
    pub(super) fn unstored(self, old: &InUse) -> Result<Applied> {
        let in_use = self.in_use(old, 0);
        self.put(&in_use, Standing::Unstored)
    }

    /// The current one from now on, and in force. The proposal is on disk already.
    pub(super) fn store(
        self,
        old: &InUse,
        vault: &Vault,
        proposal: &Proposal,
        limit: Option<Duration>,
    ) -> Result<Applied> {
        let in_use = self.in_use(old, proposal.generation);
        let standing = standing(vault, proposal.generation, limit);
        // First of all: were the power cut now, the next boot would take it, on proof as well.
        vault.commit(proposal, Slot::Current)?;
        self.put(&in_use, standing).context("stored, but not in force before the next boot")
    }

    /// As [`Self::store`] for a text that somebody has put in its place already: it is sealed afterwards, because
    /// nobody waits for an answer and the pods do.
    pub(super) fn store_after(self, old: &InUse, limit: Option<Duration>) -> Result<Applied> {
        let vault = Vault::default();
        let generation = vault.next();
        let in_use = self.in_use(old, generation);
        let (text, source) = (self.text.clone(), self.source.clone());
        let applied = self.put(&in_use, standing(&vault, generation, limit))?;
        match vault.seal_current(&text, &source) {
            Ok(Some(_)) => {
                if let Err(error) = super::remember_word(&vault, old) {
                    log::warn!("config: {error:#}; the kernel's words may go before it at the next boot");
                }
            }
            Ok(None) => {
                log::info!("config: its file has changed once more; the newer text is looked at next");
            }
            Err(error) => log::warn!("config: not kept with a checksum: {error:#}"),
        }
        Ok(applied)
    }

    fn in_use(&self, old: &InUse, generation: u64) -> InUse {
        let new = self.outcome.config.clone().unwrap_or_default();
        InUse {
            source: self.source.clone(),
            digest: load::text_digest(&self.text),
            generation,
            tried: false,
            word: old.word.clone(),
            config: held_back(&old.config, &new),
        }
    }

    fn put(self, in_use: &InUse, standing: Standing) -> Result<Applied> {
        let machine: Machine = read_own(paths::MACHINE)?;
        let config = &in_use.config;
        let changes: Vec<&Change> =
            self.changes.iter().filter(|change| !matches!(change.needs, Needs::Reboot(_))).collect();
        let changed = |key: &str| changes.iter().any(|change| change.path.starts_with(key));
        if changed("machine.kernel") || changed("machine.sysctls") {
            system::kernel_modules(config, machine.container);
        }
        if changed("machine.sysctls") || changed("machine.sysfs") {
            system::kernel_settings(config, machine.container);
        }
        if changed("machine.kubelet.extraMounts") {
            system::mounts(config);
        }
        if changed("machine.files") {
            files::write(&config.machine.files);
        }
        manifests(&self.outcome)?;
        let pods = self.outcome.manifests.len();
        // From here on hooks and helpers see the new one.
        load::remember(in_use, &self.text);
        let node = NodeFacts {
            container: machine.container,
            interfaces: Vec::new(),
            pod_list_token: system::pod_list_token(),
        };
        let (services, restart) = if changes.is_empty() {
            (None, Vec::new())
        } else {
            let written = system::changed_files(config, &machine, &node);
            let new = system::services(config, &machine, &node);
            let restart = restarts(&old_services(&new), &new, &written);
            (Some(new), restart)
        };
        if !machine.container
            && (changed("machine.network") || changed("machine.time"))
            && let Err(error) = hook::renew(config)
        {
            log::error!("network: {error:#}");
        }
        Ok(Applied { generation: in_use.generation, standing, pods, services, restart })
    }
}

/// Makes the manifest directory hold the pods of a config; the files that were written. Pods that cannot be run keep the
/// file that they have.
pub(super) fn manifests(outcome: &Outcome) -> Result<Vec<String>> {
    let before: StaticPods = read_own(paths::STATIC_PODS).unwrap_or_default();
    let mut refused = before.next(&outcome.manifests, &outcome.problems, &[]).refused();
    refused.extend(outcome.refused.iter().cloned());
    let dir = Path::new(paths::MANIFESTS);
    for line in manifest_dir::unblock()? {
        log::warn!("{line}");
    }
    let mut applied = manifest_dir::apply(dir, &outcome.manifests, &refused)?;
    for line in manifest_dir::move_doubles(dir, &outcome.manifests, &mut applied.foreign)? {
        log::warn!("{line}");
    }
    let pods = before.next(&outcome.manifests, &outcome.problems, &applied.foreign);
    file::replace(Path::new(paths::STATIC_PODS), &serde_json::to_vec(&pods)?, 0o600)?;
    // The others are in force; a change of the directory, or the next config, tries these again.
    for error in &applied.failed {
        log::error!("static pods: {error:#}");
    }
    Ok(applied.written)
}

/// What proof a config of this generation still owes.
fn standing(vault: &Vault, generation: u64, limit: Option<Duration>) -> Standing {
    match vault.generation(Slot::Good) {
        Some(good) if good == generation => Standing::Good,
        Some(_) => Standing::OnProof(limit.unwrap_or(PROOF_LIMIT)),
        None => Standing::Only,
    }
}

/// The services as they are described now.
fn old_services(new: &[Service]) -> Vec<Service> {
    let described = |service: &Service| read_own(&crate::child::description(&service.id)).ok();
    new.iter().filter_map(described).collect()
}

/// A file that PID 1 or we have written.
fn read_own<T: serde::de::DeserializeOwned>(path: &str) -> Result<T> {
    serde_json::from_slice(&file::read(Path::new(path), OWN_FILE_MAX)?)
        .with_context(|| format!("read {path}"))
}

/// Puts a stored config in force that is there already.
pub(super) fn stored(
    outcome: Outcome,
    text: Vec<u8>,
    source: &str,
    generation: u64,
    old: &InUse,
) -> Result<Applied> {
    let none = MachineConfig::default();
    let changes = podium_init::live::changes(&old.config, outcome.config.as_ref().unwrap_or(&none));
    let next = Next { outcome, text, source: source.to_owned(), changes };
    let in_use = next.in_use(old, generation);
    // Generation 0 is the image's own.
    let standing =
        if generation == 0 { Standing::Good } else { standing(&Vault::default(), generation, None) };
    next.put(&in_use, standing)
}
