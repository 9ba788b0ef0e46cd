//! `init apply ASK`: one change of the node's config, done by a child so that PID 1 reads no config and waits for no
//! disk.
//!
//! The ask is a [`podium_init::live::Ask`]; a client's connection, if there is one, is descriptors 0 and 1. The order
//! is that of a boot: what is stored is on disk before anything is changed for it, a file that a pod mounts before its
//! manifest. What became of it is left in [`paths::CHANGE_REPORT`] for PID 1, which runs one change at a time.

mod client;
mod force;
mod revert;

use crate::boot::Machine;
use crate::job;
use crate::load;
use crate::parse::{self, Encoding};
use crate::stored::Vault;
use crate::sys::file;
use crate::{kmsg, manifest_dir};
use anyhow::{Context, Result, bail};
use client::Client;
use podium_init::config::{InUse, MachineConfig, Outcome, Severity};
use podium_init::live::{
    Ask, Change, Mode, Needs, Report, TRY_LIMIT, changes_from, difference, in_container, waits_for_config,
};
use podium_init::paths;
use podium_init::store::{Slot, again, open};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Why the node reboots in mode reboot.
const ASKED_FOR: &str = "the one who applied it wants it so";

/// Files that are said to have been put back; after so many the reason is clear.
const SAID_MAX: usize = 20;

/// Does one change.
///
/// # Errors
/// What kept it from being done; nothing has changed then, or PID 1 repairs what has.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [ask] = args else { bail!("init apply is for PID 1 itself") };
    let ask: Ask = serde_json::from_str(ask).context("init apply is for PID 1 itself")?;
    job::enter()?;
    let client = Client::new(ask.has_client())?;
    if ask.has_client() {
        kmsg::start_and_tell(client::tell_log);
    } else {
        kmsg::start();
    }
    let done = act(&ask, &client);
    let report = match done {
        Ok(report) => report,
        Err(error) => {
            client.refuse(&format!("{error:#}"), "what was in force stays so");
            Report::Failed { why: format!("config: {error:#}") }
        }
    };
    let json = serde_json::to_vec(&report)?;
    file::replace(Path::new(paths::CHANGE_REPORT), &json, 0o600)
}

fn act(ask: &Ask, client: &Client) -> Result<Report> {
    match ask {
        Ask::Apply { mode, dry_run, limit, first, by } => {
            if *first && let Some(report) = refused_as_later(client)? {
                return Ok(report);
            }
            let text = client.receive()?;
            // No other change runs beside this one, but a person may have put a file there meanwhile.
            if *first && let Some(report) = refused_as_later(client)? {
                return Ok(report);
            }
            Request {
                text,
                source: format!("applied by {by}"),
                mode: *mode,
                dry_run: *dry_run,
                limit: *limit,
            }
            .act(client)
        }
        Ask::Rollback { generation, by } => {
            client.begin();
            let (generation, text) = revert::recall(*generation)?;
            let source = again(generation, by);
            Request { text, source, mode: Mode::Auto, dry_run: false, limit: None }.act(client)
        }
        Ask::File { path } => file_changed(path),
        Ask::Revert { why } => revert::revert(why),
        Ask::Prove => revert::prove(),
        Ask::Keep { kept } => revert::keep(*kept),
        Ask::Repair => repair(),
    }
}

/// A config that a client wants.
struct Request {
    text: Vec<u8>,
    source: String,
    mode: Mode,
    dry_run: bool,
    limit: Option<Duration>,
}

impl Request {
    fn act(self, client: &Client) -> Result<Report> {
        let outcome = parse::check(&self.text, Encoding::Plain)?;
        client.problems(&outcome.problems);
        let old = in_use()?;
        // Also of one that is refused, as far as it can be read: who mends it sees both.
        let list =
            outcome.config.as_ref().map(|config| changed(&old, config)).transpose()?.unwrap_or_default();
        if outcome.config.is_some() {
            client.lines("diff", &difference(&whole(&old)?, &as_value(&outcome)?));
            client.changes(&list);
        }
        let errors = outcome.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        if !outcome.is_whole() {
            let plural = if errors == 1 { "" } else { "s" };
            client
                .refuse(&format!("the config has {errors} error{plural}"), "mend them; nothing has changed");
            return Ok(Report::Nothing { why: None });
        };
        let reboot =
            needs_reboot(&list).or_else(|| (self.mode == Mode::Reboot).then(|| ASKED_FOR.to_owned()));
        if let (Some(why), Mode::NoReboot | Mode::Try) = (&reboot, self.mode) {
            let mode = self.mode.word();
            client.refuse(&format!("not possible in mode {mode}: {why}"), "use mode auto or staged");
            return Ok(Report::Nothing { why: None });
        }
        if self.mode == Mode::Try && waits_for_config(&old) {
            client.refuse("there is no config that could come back after a try", "use mode auto");
            return Ok(Report::Nothing { why: None });
        }
        if self.dry_run {
            client.done(&json!({"result": "dry run", "mode": self.mode.word(), "needsReboot": reboot}));
            return Ok(Report::Nothing { why: None });
        }
        let vault = Vault::default();
        if self.mode == Mode::Staged || reboot.is_some() {
            let proposal = vault.propose(&self.text, &self.source)?;
            let generation = vault.commit(&proposal, Slot::Staged)?;
            remember_word(&vault, &old)?;
            end_maintenance(&old)?;
            client.done(&json!({"result": "staged", "generation": generation, "reboot": reboot.is_some() && self.mode != Mode::Staged}));
            let reboot = reboot.filter(|_| self.mode != Mode::Staged);
            return Ok(Report::Staged { generation, reboot });
        }
        let source = self.source.clone();
        let next = force::Next { outcome, text: self.text, source, changes: list };
        let applied = if self.mode == Mode::Try {
            next.try_for(&old, self.limit.unwrap_or(TRY_LIMIT))?
        } else {
            let proposal = vault.propose(&next.text, &next.source)?;
            let stored = next.store(&old, &vault, &proposal, self.limit).map_err(|error| {
                // It may be in force all the same.
                let ended = if vault.has_had_one() { end_maintenance(&old) } else { Ok(()) };
                match ended {
                    Ok(()) => error,
                    Err(open) => error.context(format!("{open:#}")),
                }
            })?;
            remember_word(&vault, &old)?;
            stored
        };
        client.done(&json!({
            "result": "applied", "mode": self.mode.word(), "generation": applied.generation, "pods": applied.pods,
            "standing": applied.standing, "restarts": applied.restart,
        }));
        Ok(Report::Applied(applied.into()))
    }
}

/// A config that came by maintenance is the first one, or none. `Some`: it was refused.
fn refused_as_later(client: &Client) -> Result<Option<Report>> {
    if in_use()?.fresh && !Vault::default().has_had_one() {
        return Ok(None);
    }
    client.refuse(
        "this node has a config, or has had one: only the first one is taken from anybody",
        "apply it with a client certificate that the node's machine.ca has signed",
    );
    Ok(Some(Report::Nothing { why: None }))
}

/// A config is stored, though another one, or none, is in force: nobody may give a first one any more.
fn end_maintenance(old: &InUse) -> Result<()> {
    if !old.fresh {
        return Ok(());
    }
    let text = file::read(Path::new(paths::CONFIG_TEXT), load::CONFIG_MAX)?;
    let in_use = InUse { fresh: false, ..old.clone() };
    load::write_in_use(&in_use, paths::CONFIG_IN_USE, &text, paths::CONFIG_TEXT)
        .context("the config is stored, but the network API still takes one from anybody; reboot the node")
}

/// From now on what is stored goes before the kernel words of this boot.
fn remember_word(vault: &Vault, old: &InUse) -> Result<()> {
    old.word.as_ref().map_or(Ok(()), |word| vault.write_note(load::WORD_TAKEN, word))
}

/// A watched file was written, renamed into its place, or removed.
fn file_changed(path: &str) -> Result<Report> {
    let old = in_use()?;
    let bytes = match Path::new(path).symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            log::warn!(
                "config: {path} was removed; what is in force stays so, the next boot takes what is left"
            );
            return Ok(Report::Nothing { why: None });
        }
        _ => file::read(Path::new(path), crate::stored::STORED_MAX)?,
    };
    // A person edits below the line that we wrote; that the file was written just now tells this from damage.
    let text = match open(&bytes) {
        Ok(stored) => stored.text.to_vec(),
        Err(_) => bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .and_then(|end| bytes.get(end + 1..))
            .unwrap_or_default()
            .to_vec(),
    };
    if load::text_digest(&text) == old.digest && !old.tried {
        return Ok(Report::Nothing { why: None });
    }
    let outcome = parse::check(&text, Encoding::Plain)?;
    load::say_problems(path, &outcome.problems);
    let Some(config) = &outcome.config else {
        let why = format!("config from {path}: not used; generation {} stays in force", old.generation);
        return Ok(Report::Nothing { why: Some(why) });
    };
    let list = changed(&old, config)?;
    for Change { path: key, needs } in &list {
        match needs {
            Needs::Reboot(why) | Needs::Later(why) => {
                log::warn!("config from {path}: {key} is in force after the next boot: {why}");
            }
            Needs::Never(_) => log::warn!("config from {path}: {key}: {needs}"),
            Needs::Nothing | Needs::Restart => {}
        }
    }
    let next = force::Next { outcome, text, source: format!("file {path}"), changes: list };
    let applied = if path == paths::STATE_CONFIG {
        next.store_after(&old)?
    } else {
        next.store_beside(&old, &load::text_digest(&bytes))?
    };
    Ok(Report::Applied(applied.into()))
}

/// `init unblock`: moves what can hang a kubelet out of its sight. A process of its own, for it waits for no change.
///
/// # Errors
/// Something could not be moved.
pub(crate) fn unblock(_args: &[String]) -> Result<()> {
    job::enter()?;
    kmsg::start();
    let moved = manifest_dir::unblock()?;
    for line in &moved.lines {
        log::warn!("{line}");
    }
    moved.failed.into_iter().next().map_or(Ok(()), Err)
}

/// Makes the manifest directory what the config in force says.
fn repair() -> Result<Report> {
    let text = file::read(Path::new(paths::CONFIG_TEXT), load::CONFIG_MAX)?;
    let outcome = if text.is_empty() { Outcome::default() } else { parse::check(&text, Encoding::Plain)? };
    if outcome.config.is_none() && !text.is_empty() {
        bail!("{} is damaged; the manifests stay as they are", paths::CONFIG_TEXT);
    }
    let done = force::manifests(&outcome, &in_use()?.config, None)?;
    for file in done.written.iter().take(SAID_MAX) {
        log::warn!("{}/{file}: changed or removed by somebody else; put back", paths::MANIFESTS);
    }
    Ok(Report::Repaired { failed: done.failed, waits: done.waits })
}

/// Everything that only a boot can change, in one sentence.
fn needs_reboot(changes: &[Change]) -> Option<String> {
    let needs = changes.iter().filter_map(|change| match &change.needs {
        Needs::Reboot(why) => Some(format!("{} needs a reboot: {why}", change.path)),
        Needs::Nothing | Needs::Restart | Needs::Later(_) | Needs::Never(_) => None,
    });
    let all: Vec<String> = needs.collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What a new config changes on this machine.
fn changed(old: &InUse, new: &MachineConfig) -> Result<Vec<Change>> {
    let machine: Machine = file::read_own(paths::MACHINE)?;
    let list = changes_from(old, new);
    Ok(if machine.container { in_container(list) } else { list })
}

/// The config in force, as it was made known.
fn in_use() -> Result<InUse> {
    file::read_own(paths::CONFIG_IN_USE)
}

/// The config in force with its pods, for a comparison.
fn whole(in_use: &InUse) -> Result<Value> {
    let text = file::read(Path::new(paths::CONFIG_TEXT), load::CONFIG_MAX)?;
    if text.is_empty() {
        return Ok(serde_json::to_value(&in_use.config)?);
    }
    as_value(&parse::check(&text, Encoding::Plain)?)
}

/// A config with its pods as a value: what is default in it is left out, so that a diff shows what was written.
fn as_value(outcome: &Outcome) -> Result<Value> {
    let mut value = serde_json::to_value(&outcome.config)?;
    let pods: Result<Vec<Value>, _> =
        outcome.manifests.iter().map(|manifest| serde_json::from_str(&manifest.bytes)).collect();
    if let Some(machine) = value.get_mut("machine").and_then(Value::as_object_mut) {
        machine.insert("pods".to_owned(), Value::Array(pods?));
    }
    Ok(value)
}
