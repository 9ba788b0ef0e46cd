//! The ways back: to the stored config after a trial, to the last known good one after a proof that failed, and to a
//! generation of the history when somebody asks.

use super::{force, in_use};
use crate::load;
use crate::parse::{self, Encoding};
use crate::stored::Vault;
use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::config::{InUse, MachineConfig, Outcome};
use podium_init::live::Report;
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
    let applied = force::stored(outcome, stored.text.to_vec(), &source, generation, old)?;
    Ok(Some(Report::Applied(applied.into())))
}

/// What a node without any stored config runs.
fn image_default(old: &InUse) -> Result<Report> {
    let text = file::read(Path::new(paths::IMAGE_CONFIG), load::CONFIG_MAX)
        .context("there is none to go back to")?;
    let outcome = parse::check(&text, Encoding::Plain)?;
    if outcome.config.is_none() {
        bail!("there is none to go back to: the image's own cannot be used");
    }
    let applied = force::stored(outcome, text, "image default", 0, old)?;
    Ok(Report::Applied(applied.into()))
}
