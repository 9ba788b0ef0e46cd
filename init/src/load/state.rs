//! What STATE holds, at boot: the first of its configs that can be used, and what becomes of the others.
//!
//! The order is `podium_init::store`'s. One that is damaged, or that this version does not accept any more, is moved
//! aside and said loudly; a file that a person put there is left where it is. So no boot tries the same bad config
//! again and again, and none is lost.

use super::{Source, Taken, take};
use crate::boot::Machine;
use crate::parse::{self, Encoding};
use crate::stored::Vault;
use podium_init::store::{BOOTS_TO_PROVE, Holdings, Proof, Slot, choose, open, owed};

/// The first usable one.
pub(super) fn from_state(machine: &Machine) -> Option<Taken> {
    let vault = Vault::default();
    let holdings = vault.holdings();
    let order = choose(&holdings);
    if order.first() == Some(&Slot::Good) && holdings.current.is_some() {
        log::error!(
            "config from STATE: generation {} did not prove itself in {BOOTS_TO_PROVE} boots; going back",
            holdings.current.unwrap_or(0)
        );
    }
    order.into_iter().find_map(|slot| try_one(&vault, slot, &holdings, machine))
}

fn try_one(vault: &Vault, slot: Slot, holdings: &Holdings, machine: &Machine) -> Option<Taken> {
    let source = Source::State(slot);
    let bytes = match vault.read(slot) {
        Ok(bytes) => bytes?,
        Err(error) => {
            log::error!("config from {source}: {error:#}");
            return None;
        }
    };
    let stored = match open(&bytes) {
        Ok(stored) => stored,
        Err(damaged) => {
            log::error!("config from {source}: {damaged}");
            set_aside(vault, slot, &source);
            return None;
        }
    };
    let outcome = match parse::check(stored.text, Encoding::Plain) {
        Ok(outcome) => outcome,
        // No child could be asked: that says nothing of the config.
        Err(error) => {
            log::error!("config from {source}: {error:#}");
            return None;
        }
    };
    let mut generation = stored.seal.as_ref().map_or(0, |seal| seal.generation);
    let Some(mut taken) = take(&source, stored.text, outcome, machine) else {
        if stored.seal.is_some() {
            set_aside(vault, slot, &source);
        }
        return None;
    };
    let mut holdings = *holdings;
    if slot == Slot::Current && stored.seal.is_none() {
        // From now on it is a config like any other: it can be proved, damaged, and gone back to.
        match vault.seal_current(stored.text, "file /system/state/config.yaml") {
            Ok(None) => {}
            Ok(Some(new)) => {
                log::info!("config from {source}: put there by hand, kept as generation {new}");
                generation = new;
                holdings = vault.holdings();
            }
            Err(error) => log::warn!("config from {source}: not kept with a checksum: {error:#}"),
        }
    }
    taken.in_use.generation = generation;
    taken.proof = if generation == 0 { None } else { settle(vault, slot, &holdings) };
    if let Some(Proof::OrBack(Some(_))) = taken.proof {
        log::info!(
            "config {generation}: kept though it has not proved itself: the node was not well before it"
        );
    }
    Some(taken)
}

/// Makes the slot that was taken the current one. `Some`: it has to prove itself.
fn settle(vault: &Vault, slot: Slot, holdings: &Holdings) -> Option<Proof> {
    let said = |done: anyhow::Result<()>| {
        if let Err(error) = done {
            log::error!("config from STATE: {error:#}; the next boot decides anew");
        }
    };
    match slot {
        Slot::Current => {
            let proof = owed(holdings);
            if proof.is_some() {
                said(vault.count_boot(holdings));
            }
            proof
        }
        Slot::Staged => {
            said(vault.make_current(Slot::Staged));
            let holdings = vault.holdings();
            said(vault.count_boot(&holdings));
            owed(&holdings)
        }
        Slot::Good => {
            if vault.generation(Slot::Current).is_some() {
                set_aside(vault, Slot::Current, &Source::State(Slot::Current));
            }
            said(vault.make_current(Slot::Good));
            None
        }
    }
}

fn set_aside(vault: &Vault, slot: Slot, source: &Source) {
    match vault.set_aside(slot) {
        Ok(to) => log::error!("config from {source}: kept for inspection as {}", to.display()),
        Err(error) => log::error!("config from {source}: not moved aside: {error:#}"),
    }
}
