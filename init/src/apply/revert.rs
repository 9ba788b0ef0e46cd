//! The ways back: to the stored config after a trial, to the last known good one after a proof that failed, and to a
//! generation of the history when somebody asks.

use super::{changed, force, in_use, needs_reboot};
use crate::load;
use crate::parse::{self, Encoding};
use crate::stored::Vault;
use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::config::{InUse, MachineConfig, Outcome};
use podium_init::live::{Applied, Change, Report};
use podium_init::paths;
use podium_init::store::{Kept, Slot, open};
use std::path::Path;

/// The text of a generation; `None`: of the last good one before the current one.
pub(super) fn recall(generation: Option<u64>) -> Result<(u64, Vec<u8>)> {
    let vault = Vault::default();
    let generation = generation.map_or_else(|| vault.before(), Ok)?;
    Ok((generation, vault.recall(generation)?))
}

/// The config in force has proved itself.
pub(super) fn prove() -> Result<Report> {
    let (vault, in_use) = (Vault::default(), in_use()?);
    if in_use.tried || in_use.generation == 0 || vault.generation(Slot::Current) != Some(in_use.generation) {
        // Somebody has stored another one meanwhile; that one has its own proof to give.
        return Ok(Report::Nothing { why: None });
    }
    if in_use.partial {
        vault.keep(Kept::Partial)?;
        log::warn!(
            "config {}: kubelet and pods are up; it has errors, so the last known good one stays what it is",
            in_use.generation
        );
    } else {
        vault.prove()?;
        log::info!("config {}: kubelet and pods are up; it is the last known good one", in_use.generation);
    }
    Ok(Report::Proved)
}

/// The config in force stays so, though it may never prove itself.
pub(super) fn keep(kept: Kept) -> Result<Report> {
    let (vault, in_use) = (Vault::default(), in_use()?);
    if !in_use.tried && in_use.generation != 0 && vault.generation(Slot::Current) == Some(in_use.generation) {
        vault.keep(kept)?;
    }
    Ok(Report::Kept)
}

/// Back to what was before. Nothing is moved before there is something to go back to; an error that may pass ends it,
/// and the policy tries again.
pub(super) fn revert(why: &str) -> Result<Report> {
    let (vault, old) = (Vault::default(), in_use()?);
    log::warn!("config: going back: {why}");
    if old.tried
        && let Some(report) = untried(&old)?
    {
        return Ok(report);
    }
    let order: &[Slot] = if old.tried { &[Slot::Current, Slot::Good] } else { &[Slot::Good] };
    for slot in order {
        let Some(report) = from(&vault, *slot, &old)? else { continue };
        if *slot == Slot::Good {
            settle(&vault, &old);
        }
        return Ok(report);
    }
    let report = image_default(&old)?;
    aside(&vault, &old);
    Ok(report)
}

/// Back to what was in force before a trial, wherever that came from. `None`: that is not known, or cannot be used.
fn untried(old: &InUse) -> Result<Option<Report>> {
    let Some((before, text)) = force::before_try()? else { return Ok(None) };
    let outcome = if text.is_empty() {
        // The node waited for its first config.
        Outcome { config: Some(MachineConfig::default()), ..Outcome::default() }
    } else {
        parse::check(&text, Encoding::Plain)?
    };
    if outcome.config.is_none() {
        load::say_problems(&before.source, &outcome.problems);
        return Ok(None);
    }
    let applied = force::again(outcome, text, &before, old)?;
    Ok(Some(Report::Applied(applied.into())))
}

/// The last known good one is in force: it is the current one, too.
fn settle(vault: &Vault, old: &InUse) {
    aside(vault, old);
    if let Err(error) = vault.make_current(Slot::Good) {
        log::error!("config: {error:#}; the next boot takes the last known good one all the same");
    }
}

/// What was reverted is kept for inspection.
fn aside(vault: &Vault, old: &InUse) {
    if old.tried || vault.generation(Slot::Current) != Some(old.generation) {
        return;
    }
    match vault.set_aside(Slot::Current) {
        Ok(to) => log::warn!("config {}: kept for inspection as {}", old.generation, to.display()),
        Err(error) => log::error!("config {}: not moved aside: {error:#}", old.generation),
    }
}

/// Puts one in force. `None`: it is not there, or cannot be used at all.
fn from(vault: &Vault, slot: Slot, old: &InUse) -> Result<Option<Report>> {
    let Some(bytes) = vault.read(slot)? else { return Ok(None) };
    let stored = match open(&bytes) {
        Ok(stored) => stored,
        Err(damaged) => {
            log::error!("config from STATE ({slot}): {damaged}");
            return Ok(None);
        }
    };
    let outcome = parse::check(stored.text, Encoding::Plain)?;
    load::say_problems("STATE", &outcome.problems);
    if outcome.config.is_none() {
        log::error!("config from STATE ({slot}): cannot be used any more");
        return Ok(None);
    }
    let generation = stored.seal.as_ref().map_or(0, |seal| seal.generation);
    let source = stored.seal.as_ref().map_or_else(|| slot.to_string(), |seal| seal.source.clone());
    put(outcome, stored.text.to_vec(), &source, generation, old).map(Some)
}

fn put(outcome: Outcome, text: Vec<u8>, source: &str, generation: u64, old: &InUse) -> Result<Report> {
    let reboot = outcome.config.as_ref().map(|back| by_boot(old, back)).transpose()?.flatten();
    let applied = force::stored(outcome, text, source, generation, old)?;
    Ok(Report::Applied(Applied { reboot, ..applied }.into()))
}

/// What the config that goes has brought by a boot, so that only a boot takes it away, as a sentence.
fn by_boot(old: &InUse, back: &MachineConfig) -> Result<Option<String>> {
    if old.tried {
        // No such change is ever tried.
        return Ok(None);
    }
    // Were it not there, a boot too many would be the lesser evil: the way back must not end here.
    let text = file::read(Path::new(paths::CONFIG_TEXT), load::CONFIG_MAX).unwrap_or_default();
    let gone = parse::check(&text, Encoding::Plain)?.config;
    let held = gone.map(|gone| changed(old, &gone)).transpose()?.unwrap_or_default();
    Ok(needs_reboot(&without(changed(old, back)?, &held)))
}

/// Those changes that are not among the ones which wait for a boot already: what has waited was never in force.
fn without(changes: Vec<Change>, waiting: &[Change]) -> Vec<Change> {
    changes.into_iter().filter(|change| waiting.iter().all(|other| other.path != change.path)).collect()
}

/// What a node without any stored config runs.
fn image_default(old: &InUse) -> Result<Report> {
    let text = file::read(Path::new(paths::IMAGE_CONFIG), load::CONFIG_MAX)
        .context("there is none to go back to")?;
    let outcome = parse::check(&text, Encoding::Plain)?;
    if outcome.config.is_none() {
        bail!("there is none to go back to: the image's own cannot be used");
    }
    put(outcome, text, "image default", 0, old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::live::changes;

    fn config(hostname: &str, parameters: &str) -> MachineConfig {
        let text = format!(
            "version: v1alpha1\nmachine:\n  network: {{hostname: {hostname}}}\n  \
             kernel: {{modules: [{{name: loop, parameters: [{parameters}]}}]}}\n"
        );
        podium_init::config::parse(text.as_bytes()).config.unwrap()
    }

    #[test]
    fn what_a_boot_has_brought_goes_with_a_boot() {
        let by_boot = |in_force: &MachineConfig, gone: &MachineConfig, back: &MachineConfig| {
            needs_reboot(&without(changes(in_force, back), &changes(in_force, gone)))
        };
        let (good, bad) = (config("good", "max_loop=1"), config("bad", "max_loop=1"));
        let why = by_boot(&bad, &bad, &good).unwrap();
        assert!(why.contains("hostname") && !why.contains("modules"), "{why}");
        assert_eq!(by_boot(&good, &bad, &good), None, "it was never in force");
        let older = config("older", "max_loop=1");
        assert_eq!(by_boot(&older, &good, &good), None, "it has waited for its boot before, too");
    }
}
