//! Puts a checked config in force on the running node: settings, files, manifests, and what PID 1 is to know of it.
//!
//! Only what has changed is touched. A pod of which nothing changed keeps its file as it is, whatever else changes.

use crate::boot::Machine;
use crate::load;
use crate::prepare::{files, mounts, system};
use crate::stored::{Proposal, Vault};
use crate::sys::{cgroup, clock, file};
use crate::{hook, manifest_dir, network};
use anyhow::{Context, Result};
use podium_init::config::{InUse, MachineConfig, Outcome};
use podium_init::live::{
    Applied, Change, Needs, PROOF_LIMIT, Standing, changes_from, in_force, restarts, waits_for_config,
};
use podium_init::manifests::{Facts, Holds, Manifest, file_name};
use podium_init::paths;
use podium_init::services::{KUBELET_GROUP, NodeFacts, Service};
use podium_init::staticpods::{Foreign, StaticPods};
use podium_init::store::Slot;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// A config that is about to be in force.
pub(super) struct Next {
    pub(super) outcome: Outcome,
    pub(super) text: Vec<u8>,
    /// Where it came from.
    pub(super) source: String,
    pub(super) changes: Vec<Change>,
}

impl Next {
    /// In force for a time, not stored. What is in force now comes back.
    pub(super) fn try_for(self, old: &InUse, limit: Duration) -> Result<Applied> {
        if !old.tried {
            let text = file::read(Path::new(paths::CONFIG_TEXT), load::CONFIG_MAX)?;
            load::write_in_use(old, paths::BEFORE_TRY, &text, paths::BEFORE_TRY_TEXT)?;
        }
        let in_use = InUse { tried: true, ..self.in_use(old, old.generation) };
        self.put(old, &in_use, Standing::Tried(limit))
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
        self.put(old, &in_use, standing).context("stored, but not in force before the next boot")
    }

    /// As [`Self::store`] for a text that somebody has put in its place already: it is sealed afterwards, because
    /// nobody waits for an answer and the pods do.
    pub(super) fn store_after(self, old: &InUse) -> Result<Applied> {
        let vault = Vault::default();
        let generation = vault.next();
        let in_use = self.in_use(old, generation);
        let (text, source) = (self.text.clone(), self.source.clone());
        let applied = self.put(old, &in_use, standing(&vault, generation, None))?;
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

    /// As [`Self::store_after`] for a file that is not STATE's own: it stays as it is, and the kernel's words name it.
    pub(super) fn store_beside(self, old: &InUse, digest: &str) -> Result<Applied> {
        let vault = Vault::default();
        let generation = vault.next();
        // Its new text is what the words give from now on.
        let in_use = InUse { word: Some(digest.to_owned()), ..self.in_use(old, generation) };
        let (text, source) = (self.text.clone(), self.source.clone());
        let is_whole = !in_use.partial;
        let applied = self.put(old, &in_use, standing(&vault, generation, None))?;
        if is_whole {
            let stored = vault
                .propose(&text, &source)
                .and_then(|proposal| vault.commit(&proposal, Slot::Current))
                .and_then(|_| super::remember_word(&vault, &in_use));
            if let Err(error) = stored {
                log::warn!("config: not kept in STATE: {error:#}; the next boot needs the file again");
            }
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
            fresh: false,
            partial: !self.outcome.is_whole(),
            word: old.word.clone(),
            config: in_force(old, &new),
        }
    }

    fn put(self, old: &InUse, in_use: &InUse, standing: Standing) -> Result<Applied> {
        let is_first = waits_for_config(old);
        let machine: Machine = file::read_own(paths::MACHINE)?;
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
        let missing = changed("machine.kubelet.extraMounts").then(|| mounts::make(config));
        if changed("machine.files") {
            files::write(&config.machine.files);
        }
        let done = manifests(&self.outcome, config, missing)?;
        for file in done.kept.iter().take(super::SAID_MAX) {
            log::warn!(
                "{}/{file}: stays until the config is mended: which pod it is that cannot be run is not certain",
                paths::MANIFESTS
            );
        }
        let pods = self.outcome.manifests.len();
        let (refused, failed, waits) = (self.outcome.refused.len(), done.failed, done.waits);
        // A service that starts meanwhile must not take the new files for somebody else's.
        let lock = file::lock(paths::CONFIG_LOCK);
        // From here on hooks and helpers see the new one.
        load::remember(in_use, &self.text);
        if !in_use.tried {
            forget_before_try();
        }
        let node = NodeFacts {
            container: machine.container,
            // Only what a boot writes is about them.
            interfaces: if is_first { network::present() } else { Vec::new() },
            pod_list_token: system::pod_list_token(),
        };
        if is_first {
            system::hostname(config, machine.container);
        }
        let (services, restart) = if changes.is_empty() && !is_first {
            (None, Vec::new())
        } else {
            let written = if is_first {
                system::all_files(config, &machine, &node)
            } else {
                system::changed_files(config, &machine, &node)
            };
            let new = system::services(config, &machine, &node);
            let restart = restarts(&old_services(&new), &new, &written);
            (Some(new), restart)
        };
        drop(lock);
        if !machine.container
            && (is_first || changed("machine.network") || changed("machine.time"))
            && let Err(error) = hook::renew(config)
        {
            log::error!("network: {error:#}");
        }
        let generation = in_use.generation;
        Ok(Applied { generation, standing, pods, refused, failed, waits, services, restart, reboot: None })
    }
}

/// What was done to the manifest directory.
#[derive(Debug)]
pub(super) struct Done {
    /// Files that were written, and not because they were held until now.
    pub(super) written: Vec<String>,
    /// Files of ours that stay, see `podium_init::manifests::Changes`.
    kept: Vec<String>,
    /// How many things could not be done; each was said.
    pub(super) failed: usize,
    /// Manifests are held back, or a mount is, for something that may come by itself.
    pub(super) waits: bool,
}

/// Makes the manifest directory hold the pods of a config, but for those that must wait: `init wait` looks when that is
/// over. Pods that cannot be run keep the file that they have. One thing that cannot be done keeps no other from it.
/// `missing`: mount points of the config where nothing is mounted, if somebody has just looked.
///
/// # Errors
/// The directory cannot be listed; nothing has changed.
pub(super) fn manifests(
    outcome: &Outcome,
    config: &MachineConfig,
    missing: Option<Vec<String>>,
) -> Result<Done> {
    let before: StaticPods = file::read_own(paths::STATIC_PODS).unwrap_or_default();
    let dir = Path::new(paths::MANIFESTS);
    let mut moved = manifest_dir::unblock()?;
    moved.failed.extend(manifest_dir::remove_leftovers(dir).err());
    let mut refused = before.next(&outcome.manifests, &outcome.problems, &[]).refused();
    refused.extend(outcome.refused.iter().cloned());
    let mut want = outcome.manifests.clone();
    let mut holds: Holds = file::read_own(paths::HOLDS).unwrap_or_default();
    want.extend(brought_back(dir, &refused, &want, &holds));
    holds.missing = missing.unwrap_or(holds.missing);
    let held: BTreeSet<String> = holds.held().iter().map(|held| held.file()).collect();
    let mut unkept = None;
    let mut applied = manifest_dir::apply(dir, &want, &refused, |changes| {
        let is_mounted = |target: &str| mounts::is_mounted(config, target);
        let kubelet = cgroup::running_since(KUBELET_GROUP);
        let facts = Facts {
            now: clock::now(),
            is_gone: &cgroup::pod_is_gone,
            runs: &cgroup::pod_runs,
            kubelet,
            is_mounted: &is_mounted,
        };
        let order = holds.order(&want, changes, &facts);
        // First: whoever is to leave is known whatever becomes of us.
        unkept = keep_holds(&holds).err();
        order
    })?;
    want.retain(|manifest| !holds.holds(&manifest.id));
    let doubles = manifest_dir::move_doubles(dir, &want, &mut applied.foreign);
    for line in moved.lines.iter().chain(&applied.lines).chain(&doubles.lines) {
        log::warn!("{line}");
    }
    let foreign: Vec<Foreign> =
        applied.foreign.iter().map(|name| manifest_dir::read_foreign(dir, name)).collect();
    let pods = before.next(&want, &outcome.problems, &foreign).with_held(&before, holds.held());
    let listed = serde_json::to_vec(&pods).context("as JSON");
    let listed = listed.and_then(|json| {
        file::replace(Path::new(paths::STATIC_PODS), &json, 0o600)?;
        if pods != before { keep_versions(&json) } else { Ok(()) }
    });
    // What is not kept is done again with all that failed.
    let waits = holds.waits() && unkept.is_none();
    let mut failed = applied.failed;
    failed.extend(moved.failed.into_iter().chain(doubles.failed).chain(listed.err()).chain(unkept));
    // The others are in force; these are tried again.
    for error in &failed {
        log::error!("static pods: {error:#}");
    }
    applied.written.retain(|file| !held.contains(file));
    Ok(Done { written: applied.written, kept: applied.kept, failed: failed.len(), waits })
}

fn keep_holds(holds: &Holds) -> Result<()> {
    file::replace(Path::new(paths::HOLDS), &serde_json::to_vec(holds)?, 0o600)
}

/// For the next boot.
fn keep_versions(json: &[u8]) -> Result<()> {
    let path = Path::new(paths::POD_VERSIONS);
    file::make_dir(path.parent().unwrap_or(path), 0o755)?;
    file::store(path, json, 0o600)
}

/// Pods that cannot be run and whose file is gone: they run as in the version that is held back, or as in the last known
/// good config.
fn brought_back(dir: &Path, refused: &BTreeSet<String>, want: &[Manifest], holds: &Holds) -> Vec<Manifest> {
    let has_file = |id: &str| dir.join(file_name(id)).symlink_metadata().is_ok();
    let is_wanted = |id: &str| want.iter().any(|manifest| manifest.id == id);
    let mut gone: BTreeSet<&String> = refused.iter().filter(|id| !has_file(id) && !is_wanted(id)).collect();
    let held = holds.held().iter().filter_map(|held| held.manifest.as_ref());
    let mut back: Vec<Manifest> = held.filter(|manifest| gone.remove(&manifest.id)).cloned().collect();
    if !gone.is_empty() {
        back.extend(load::last_good().into_iter().filter(|manifest| gone.contains(&manifest.id)));
    }
    back
}

/// The config that comes back after a trial, if one is tried.
pub(super) fn before_try() -> Result<Option<(InUse, Vec<u8>)>> {
    if !Path::new(paths::BEFORE_TRY).exists() {
        return Ok(None);
    }
    let text = file::read(Path::new(paths::BEFORE_TRY_TEXT), load::CONFIG_MAX)?;
    Ok(Some((file::read_own(paths::BEFORE_TRY)?, text)))
}

fn forget_before_try() {
    // The mark of the two first.
    for path in [paths::BEFORE_TRY, paths::BEFORE_TRY_TEXT] {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("remove {path}: {error}");
        }
    }
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
    let described = |service: &Service| file::read_own(&crate::child::description(&service.id)).ok();
    new.iter().filter_map(described).collect()
}

/// Puts the config in force again that was so before a trial.
pub(super) fn again(outcome: Outcome, text: Vec<u8>, before: &InUse, old: &InUse) -> Result<Applied> {
    let none = MachineConfig::default();
    let changes = changes_from(old, outcome.config.as_ref().unwrap_or(&none));
    let next = Next { outcome, text, source: before.source.clone(), changes };
    // What only a boot can change was held back then as now.
    let in_use = InUse { digest: before.digest.clone(), ..next.in_use(old, before.generation) };
    let standing = match before.generation {
        0 => Standing::Good,
        generation => standing(&Vault::default(), generation, None),
    };
    next.put(old, &in_use, standing)
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
    let changes = changes_from(old, outcome.config.as_ref().unwrap_or(&none));
    let next = Next { outcome, text, source: source.to_owned(), changes };
    let in_use = next.in_use(old, generation);
    // Generation 0 is the image's own.
    let standing =
        if generation == 0 { Standing::Good } else { standing(&Vault::default(), generation, None) };
    next.put(old, &in_use, standing)
}
