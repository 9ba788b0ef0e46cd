//! The machine config: the first source that has a usable one, in the order of [`sources`].
//!
//! A source's text is checked by the parsing child; PID 1 takes only its outcome. What is wrong with a source is said
//! line by line and the next one is tried; with none left the node goes on without a kubelet and waits for one. A config
//! from the kernel command line, or a container's environment, is kept in STATE once it is whole, so that the next boot
//! has it without the words, and what is applied over it later is not undone by the same words; nothing that is broken
//! ever replaces what is stored.

mod label;
mod maintenance;
mod state;

pub(crate) use label::load_drivers;

use crate::boot::Machine;
use crate::parse::{self, Encoding};
use crate::stored::Vault;
use crate::sys::file;
use anyhow::{Context, Result, anyhow};
use maintenance::{closed, remedy};
use podium_init::base64;
use podium_init::cmdline::{Cmdline, Location};
use podium_init::config::{InUse, MachineConfig, Outcome, Problem};
use podium_init::digest::fnv1a;
use podium_init::manifests::{Manifest, kept};
use podium_init::paths;
use podium_init::services::API;
use podium_init::store::{Holdings, Proof, Slot, Stored, open, owed};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// The largest config text that is read, packed or not; the child holds the unpacked one to the same bound.
pub(crate) const CONFIG_MAX: usize = 4 << 20;
/// Problems that are said one by one; the rest are counted, for the console is slow and the first ones matter.
const SAID_MAX: usize = 20;
/// The environment variable that a container's config comes in, base64.
const USERDATA: &str = "USERDATA";
/// The note in STATE that names the kernel word's config which was taken last.
pub(crate) const WORD_TAKEN: &str = "word";

/// The config in use.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Empty when there is no usable one.
    pub config: MachineConfig,
    /// Its pods that can be run.
    pub manifests: Vec<Manifest>,
    /// What is wrong or doubtful in it.
    pub problems: Vec<Problem>,
    /// `Some`: it has to prove itself.
    pub proof: Option<Proof>,
    /// The file that it came from, if it was one that can be watched.
    pub file: Option<String>,
    /// There is none that can be used: the node waits for one.
    pub without_config: bool,
}

/// A config that was taken, before it is made known.
#[derive(Debug)]
struct Taken {
    in_use: InUse,
    text: Vec<u8>,
    manifests: Vec<Manifest>,
    problems: Vec<Problem>,
    proof: Option<Proof>,
    refused: BTreeSet<String>,
    file: Option<String>,
}

/// Where a config may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    UserData,
    Inline(String),
    Word(Location),
    State(Slot),
    Image,
}

impl Source {
    fn encoding(&self) -> Encoding {
        match self {
            Self::UserData | Self::Inline(_) => Encoding::Inline,
            Self::Word(_) | Self::State(_) | Self::Image => Encoding::Plain,
        }
    }

    /// Given by whoever starts the machine, each time it starts.
    fn is_word(&self) -> bool {
        match self {
            Self::UserData | Self::Inline(_) | Self::Word(_) => true,
            Self::State(_) | Self::Image => false,
        }
    }
}

/// As in the boot log.
impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserData => write!(out, "{USERDATA}"),
            Self::Inline(_) => write!(out, "kernel command line (inline)"),
            Self::Word(location) => write!(out, "kernel command line ({location})"),
            Self::State(Slot::Current) => write!(out, "STATE"),
            Self::State(slot) => write!(out, "STATE ({slot})"),
            Self::Image => write!(out, "image default"),
        }
    }
}

/// Takes the first usable config. Never fails: without one the node waits for it.
pub(crate) fn config(cmdline: &Cmdline, machine: &Machine) -> Loaded {
    let (mut tried, mut word) = (false, None);
    let mut older: Vec<(Source, Vec<u8>)> = Vec::new();
    for source in sources(cmdline, machine.container) {
        if let Source::State(_) = source {
            if let Some(taken) = state::from_state(machine) {
                return known(taken, word, machine.has_state);
            }
            tried |= Vault::default().holdings() != Holdings::default();
            // What was stored after them is of no use, so they are the next best.
            if let Some(taken) = older.drain(..).find_map(|(source, raw)| try_one(&source, &raw, machine)) {
                return known(taken, word, machine.has_state);
            }
            continue;
        }
        let raw = match fetch(&source) {
            Ok(Some(raw)) => raw,
            Ok(None) => continue,
            Err(error) => {
                log::error!("config from {source}: {error:#}");
                tried = true;
                continue;
            }
        };
        tried = true;
        if source.is_word() {
            let digest = text_digest(&raw);
            // A word behind one that was taken was not needed then either.
            if was_taken(&digest) || !older.is_empty() {
                log::info!("config from {source}: taken before; what is stored goes before it");
                older.push((source, raw));
                word.get_or_insert(digest);
                continue;
            }
            word.get_or_insert(digest);
        }
        if let Some(taken) = try_one(&source, &raw, machine) {
            return known(taken, word, machine.has_state);
        }
    }
    let remedy = remedy(tried, machine.container);
    let fresh = match closed(machine, Vault::default().has_had_one(), tried) {
        None => {
            log::error!(
                "no usable config: waiting for one; {remedy}; or send one to the API, by what is said with `{API}:`"
            );
            true
        }
        Some(why) => {
            log::error!(
                "no usable config: waiting for one; {remedy}; the API takes none from anybody: {why}"
            );
            false
        }
    };
    remember(&InUse { word, fresh, ..InUse::default() }, b"");
    Loaded { without_config: true, ..Loaded::default() }
}

/// Checks one source's text and takes it, if it can be used.
fn try_one(source: &Source, raw: &[u8], machine: &Machine) -> Option<Taken> {
    match parse::check(raw, source.encoding()) {
        Ok(outcome) => take(source, raw, outcome, machine),
        Err(error) => {
            log::error!("config from {source}: {error:#}");
            None
        }
    }
}

/// First to last.
fn sources(cmdline: &Cmdline, container: bool) -> Vec<Source> {
    let user_data = container.then_some(Source::UserData);
    let inline = cmdline.config_inline.clone().map(Source::Inline);
    let (word, image) = match &cmdline.config {
        Some(Location::Nowhere) => (None, None),
        location => (location.clone().map(Source::Word), Some(Source::Image)),
    };
    let given = user_data.into_iter().chain(inline).chain(word);
    given.chain([Source::State(Slot::Current)]).chain(image).collect()
}

/// Whether a kernel word's (or the environment's) config is stored, or was before somebody applied another one over it. Then the stored one
/// is newer than the word, which is the same at each boot.
fn was_taken(digest: &str) -> bool {
    let vault = Vault::default();
    let Holdings { current, good, .. } = vault.holdings();
    vault.note(WORD_TAKEN).as_deref() == Some(digest) && (current.is_some() || good.is_some())
}

/// `None`: this source has no config.
fn fetch(source: &Source) -> Result<Option<Vec<u8>>> {
    match source {
        Source::UserData => {
            Ok(std::env::var_os(USERDATA).map(OsStringExt::into_vec).filter(|text| !text.is_empty()))
        }
        Source::Inline(text) => Ok(Some(text.clone().into_bytes())),
        Source::Word(Location::Path(path)) => file::read(Path::new(path), CONFIG_MAX).map(Some),
        Source::Word(Location::Label { label, path }) => label::fetch(label, path).map(Some),
        Source::Word(Location::Nowhere) | Source::State(_) => Ok(None),
        Source::Image => if_there(paths::IMAGE_CONFIG),
    }
}

fn if_there(path: &str) -> Result<Option<Vec<u8>>> {
    let path = Path::new(path);
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => file::read(path, CONFIG_MAX).map(Some),
    }
}

/// Says what is wrong with it; a usable one from a kernel word is kept.
fn take(source: &Source, raw: &[u8], outcome: Outcome, machine: &Machine) -> Option<Taken> {
    say_problems(&source.to_string(), &outcome.problems);
    let partial = !outcome.is_whole();
    let config = outcome.config?;
    if config.machine.ca.is_some() && matches!(source, Source::Inline(_)) && !machine.container {
        log::warn!(
            "config from {source}: every process can read machine.ca.key in /proc/cmdline; give the config by \
             podium.config= or the API"
        );
    }
    log::info!("config from {source}: {}", count(outcome.manifests.len()));
    let mut in_use =
        InUse { source: source.to_string(), digest: text_digest(raw), config, partial, ..InUse::default() };
    let text = match unpacked(source, raw) {
        Ok(text) => text.into_owned(),
        // It was parsed, so it can be undone; were it not, there would be nothing to keep or show.
        Err(error) => {
            log::error!("config from {source}: {error:#}");
            Vec::new()
        }
    };
    let mut proof = None;
    if source.is_word()
        && machine.has_state
        && let Some(generation) = keep(source, &text, &in_use.digest, !partial)
    {
        in_use.generation = generation;
        proof = owed(&Vault::default().holdings());
    }
    let file = if let Source::Word(Location::Path(path)) = source { Some(path.clone()) } else { None };
    let Outcome { manifests, problems, refused, .. } = outcome;
    Some(Taken { in_use, text, manifests, problems, proof, refused: refused.into_iter().collect(), file })
}

/// The pods of the last known good config; while there is none, of the newest one in the history without an error.
pub(crate) fn last_good() -> Vec<Manifest> {
    let vault = Vault::default();
    let checked = |text: Vec<u8>| parse::check(&text, Encoding::Plain).ok();
    let good = vault.read(Slot::Good).ok().flatten();
    let good = good.and_then(|bytes| open(&bytes).ok().map(|stored| stored.text.to_vec()));
    let outcome = match good {
        Some(text) => checked(text),
        // At most as many as are kept.
        None => {
            let mut older =
                vault.history().into_iter().filter_map(|entry| vault.recall(entry.generation).ok());
            older.find_map(|text| checked(text).filter(Outcome::is_whole))
        }
    };
    outcome.map(|outcome| outcome.manifests).unwrap_or_default()
}

/// Makes it known to the helpers and to later changes. Pods that cannot be run as this config has them run as in the
/// last known good one, as they would have gone on to do had it changed under a running node.
fn known(taken: Taken, word: Option<String>, has_state: bool) -> Loaded {
    let Taken { mut in_use, text, mut manifests, problems, proof, refused, file } = taken;
    in_use.word = word;
    if !refused.is_empty() && has_state {
        let before = last_good();
        for manifest in kept(before, &manifests, &refused) {
            log::warn!(
                "pod {}/{}: as in the last known good config, until this one is mended",
                manifest.namespace,
                manifest.name
            );
            manifests.push(manifest);
        }
    }
    remember(&in_use, &text);
    Loaded { config: in_use.config, manifests, problems, proof, file, without_config: false }
}

/// Tells two texts apart.
pub(crate) fn text_digest(text: &[u8]) -> String {
    format!("{:032x}", fnv1a(text))
}

/// Says what is wrong with a source's config.
pub(crate) fn say_problems(source: &str, problems: &[Problem]) {
    for line in report(problems) {
        log::error!("config from {source}: {line}");
    }
}

/// The first problems one by one, then how many more there are.
fn report(problems: &[Problem]) -> Vec<String> {
    let mut lines: Vec<String> = problems.iter().take(SAID_MAX).map(ToString::to_string).collect();
    if let Some(more) = problems.len().checked_sub(SAID_MAX).filter(|more| *more > 0) {
        lines.push(format!("{more} more problems"));
    }
    lines
}

fn count(pods: usize) -> String {
    format!("{pods} pod{}", if pods == 1 { "" } else { "s" })
}

/// Stores a config that was given at the start for the next boot; its generation.
fn keep(source: &Source, text: &[u8], digest: &str, whole: bool) -> Option<u64> {
    if !whole {
        log::warn!("config from {source}: not kept in STATE, because it has errors");
        return None;
    }
    let vault = Vault::default();
    let kept = || {
        let current = vault.read(Slot::Current).ok().flatten().unwrap_or_default();
        let generation = match open(&current) {
            Ok(Stored { seal: Some(seal), text: have }) if have == text => seal.generation,
            _ => {
                let proposal = vault.propose(text, &source.to_string())?;
                let generation = vault.commit(&proposal, Slot::Current)?;
                log::info!("config from {source}: kept in STATE");
                generation
            }
        };
        vault.write_note(WORD_TAKEN, digest)?;
        Ok(generation)
    };
    kept()
        .map_err(|error: anyhow::Error| {
            log::error!(
                "config from {source}: not kept in STATE: {error:#}; the next boot needs the word again"
            );
        })
        .ok()
}

/// What STATE holds is a plain file, as a person would have put it there: base64 is undone, compression stays.
fn unpacked<'a>(source: &Source, raw: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    match source.encoding() {
        Encoding::Plain => Ok(Cow::Borrowed(raw)),
        Encoding::Inline => base64::decode(raw).map(Cow::Owned).map_err(|what| anyhow!("base64: {what}")),
    }
}

/// Writes what the helpers, changes and the operator look up.
pub(crate) fn remember(in_use: &InUse, text: &[u8]) {
    if let Err(error) = write_in_use(in_use, paths::CONFIG_IN_USE, text, paths::CONFIG_TEXT) {
        log::error!("{}: {error:#}; helpers use defaults", paths::CONFIG_IN_USE);
    }
    let limits = serde_json::to_vec(&in_use.config.machine.shutdown).context("as JSON");
    let written = limits.and_then(|json| file::replace(Path::new(paths::SHUTDOWN_LIMITS), &json, 0o600));
    if let Err(error) = written {
        log::error!("{}: {error:#}; a shutdown has the limits that it had", paths::SHUTDOWN_LIMITS);
    }
}

/// Writes a config and what is known of it, the latter last.
pub(crate) fn write_in_use(in_use: &InUse, path: &str, text: &[u8], text_path: &str) -> Result<()> {
    let json = serde_json::to_vec(in_use).context("as JSON")?;
    file::replace(Path::new(text_path), text, 0o600)?;
    file::replace(Path::new(path), &json, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_in_the_documented_order() {
        let cmdline = Cmdline {
            config_inline: Some("eA==".into()),
            config: Some(Location::Label { label: "CONFIG".into(), path: "/m.yaml".into() }),
            ..Cmdline::default()
        };
        let names =
            |container| sources(&cmdline, container).iter().map(ToString::to_string).collect::<Vec<_>>();
        let machine = [
            "kernel command line (inline)",
            "kernel command line (LABEL=CONFIG:/m.yaml)",
            "STATE",
            "image default",
        ];
        assert_eq!(names(false), machine);
        let nowhere = Cmdline { config: Some(Location::Nowhere), ..Cmdline::default() };
        assert_eq!(sources(&nowhere, false).iter().map(ToString::to_string).collect::<Vec<_>>(), ["STATE"]);
        assert_eq!(names(true).first().map(String::as_str), Some("USERDATA"));
        assert_eq!(names(true)[1..], machine);
    }

    #[test]
    fn the_first_problems_are_said_and_the_rest_counted() {
        let problems = |n: usize| (0..n).map(|i| Problem::error(format!("p{i}"), "x")).collect::<Vec<_>>();
        assert_eq!(report(&problems(20)).len(), 20);
        let lines = report(&problems(23));
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (21, "3 more problems"));
    }

    #[test]
    fn what_is_kept_is_the_text_itself() {
        let inline = Source::Inline(String::new());
        assert_eq!(unpacked(&inline, b"dmVyc2lvbg==").unwrap().as_ref(), b"version");
        assert!(unpacked(&inline, b"?").is_err());
        assert_eq!(unpacked(&Source::Image, b"dmVy").unwrap().as_ref(), b"dmVy");
    }

    #[test]
    fn a_source_without_a_config_is_not_an_error_and_one_that_cannot_be_read_is() {
        assert_eq!(if_there("/no/such/config").unwrap(), None);
        assert!(if_there("/proc").is_err());
    }
}
