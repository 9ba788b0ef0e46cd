//! The kernel command line: text -> [`Cmdline`], by the kernel's own quoting rules.
//!
//! [`WORDS`] is the one place that documents the `podium.*` words; the README's table is made from it. A word that
//! is wrong or unknown becomes a problem that names it, and its default is used: a machine must not stay dark
//! because of a typing error in its boot loader. This file opens nothing; `load.rs` looks the config up.

use crate::config::{Problem, did_you_mean};
use crate::watchdog::Choice;
use std::time::Duration;

/// The longest command line that is looked at, in bytes: the largest that a Linux port defines (x86 takes 2048).
pub const MAX_LENGTH: usize = 4096;
/// x86's COMMAND_LINE_SIZE less its NUL: a text of this length has probably been cut off by the kernel.
const LIKELY_CUT: usize = 2047;
/// The longest `podium.root_wait`: after that a person would have looked at the machine.
const MAX_ROOT_WAIT: u64 = 3600;

/// One documented word.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// As written; `-` and `_` are the same to the kernel and to us.
    pub name: &'static str,
    /// What its value looks like.
    pub value: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What holds without it.
    pub default: &'static str,
}

const CONFIG_INLINE: &str = "podium.config.inline";
const CONFIG: &str = "podium.config";
const NOWHERE: &str = "none";
const ROOT: &str = "podium.root";
const ROOT_WAIT: &str = "podium.root_wait";
const WATCHDOG: &str = "podium.watchdog";

/// Every `podium.*` word.
pub const WORDS: &[Word] = &[
    Word {
        name: CONFIG_INLINE,
        value: "base64 text",
        meaning: "The machine config itself, base64 (standard or URL-safe alphabet), before that as it is or \
                  compressed by gzip or zstd. Goes before every other source; once taken, what was applied over it in \
                  STATE goes before the same words.",
        default: "none",
    },
    Word {
        name: CONFIG,
        value: "`/path`, `LABEL=label:/path` or `none`",
        meaning: "Where the machine config is: a path on the running system, or a partition by its label (of the \
                  partition or of the file system) and a path on it. The file may be compressed by gzip or zstd. With \
                  `none` the image's own is not used: a node that has none in STATE waits for one.",
        default: "the STATE partition's, else the image's",
    },
    Word {
        name: ROOT,
        value: "partition label",
        meaning: "The partition that holds the root file system.",
        default: "`ROOT-A`",
    },
    Word {
        name: ROOT_WAIT,
        value: "seconds, 0 to 3600",
        meaning: "How long the root's disk may take to appear.",
        default: "`30`",
    },
    Word {
        name: WATCHDOG,
        value: "`off`, a device, a timeout, or `/dev/watchdog1,5m`",
        meaning: "The watchdog that resets the machine when PID 1 does not feed it for so long: 3 seconds to an hour, \
                  with `s`, `m` or `h`. Without a hardware one it is the kernel's own (softdog). A container uses none \
                  unless told.",
        default: "`/dev/watchdog0,60s`",
    },
];

/// What the command line asks of Podium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    /// `podium.config.inline`: base64, not yet undone; never empty.
    pub config_inline: Option<String>,
    /// `podium.config`.
    pub config: Option<Location>,
    /// `podium.root`: a partition label.
    pub root: String,
    /// `podium.root_wait`.
    pub root_wait: Duration,
    /// `podium.watchdog`.
    pub watchdog: Choice,
    /// Warnings; `path` is the word they are about.
    pub problems: Vec<Problem>,
}

/// Where a config is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An absolute path on the running system.
    Path(String),
    /// A path on the partition with this label (of the partition or of its file system).
    Label {
        /// e.g. `CONFIG`.
        label: String,
        /// Absolute, from the root of that file system.
        path: String,
    },
    /// Not in the image either: what STATE has, or nothing.
    Nowhere,
}

impl std::fmt::Display for Location {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(out, "{path}"),
            Self::Label { label, path } => write!(out, "LABEL={label}:{path}"),
            Self::Nowhere => write!(out, "{NOWHERE}"),
        }
    }
}

impl Default for Cmdline {
    fn default() -> Self {
        Self {
            config_inline: None,
            config: None,
            root: "ROOT-A".into(),
            root_wait: Duration::from_secs(30),
            watchdog: Choice::default(),
            problems: Vec::new(),
        }
    }
}

/// Reads the text of /proc/cmdline. Never fails: what cannot be used is left at its default and told as a problem.
pub fn parse(text: &[u8]) -> Cmdline {
    let mut cmdline = Cmdline::default();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let known = text.get(..MAX_LENGTH).unwrap_or(text);
    let cut = known.len() < text.len() || text.len() == LIKELY_CUT;
    let mut seen: Vec<&str> = Vec::new();
    let mut after_end = false;
    for (name, value) in words(known) {
        if name == b"--" && value.is_none() {
            after_end = true;
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if !same_name(name.get(..PREFIX.len()).unwrap_or_default(), PREFIX) {
            continue;
        }
        if after_end {
            cmdline.warn(&name, "stands after --, where the kernel's words have ended: not used", None);
            continue;
        }
        let Some(word) = WORDS.iter().find(|word| same_name(word.name, &name)) else {
            let near = did_you_mean(&name, WORDS.iter().map(|word| word.name));
            cmdline.warn(
                &name,
                format!("unknown word{near}"),
                Some("README.md lists the kernel words".into()),
            );
            continue;
        };
        if seen.contains(&word.name) {
            cmdline.warn(word.name, "given more than once, the last one is used", None);
        }
        seen.push(word.name);
        cmdline.take(word, value);
    }
    if cut {
        let message = format!("the command line is {} bytes long and seems to be cut off", text.len());
        cmdline.warn(
            "",
            message,
            Some("a long config goes into a file: podium.config=LABEL=label:/path".into()),
        );
    }
    cmdline
}

/// What all of Podium's words begin with.
const PREFIX: &str = "podium.";

impl Cmdline {
    fn take(&mut self, word: &Word, value: Option<&[u8]>) {
        let value = match value.map(std::str::from_utf8) {
            Some(Ok(value)) if !value.is_empty() => value,
            Some(Err(_)) => return self.refuse(word, "its value is not UTF-8"),
            Some(Ok(_)) | None => return self.refuse(word, "has no value"),
        };
        match word.name {
            CONFIG_INLINE => self.config_inline = Some(value.to_owned()),
            CONFIG => match location(value) {
                Some(location) => self.config = Some(location),
                None => self.refuse(word, &format!("{value:?} is no place")),
            },
            ROOT if is_label(value) => value.clone_into(&mut self.root),
            ROOT => self.refuse(word, &format!("{value:?} is no partition label")),
            WATCHDOG => match Choice::parse(value) {
                Some(choice) => self.watchdog = choice,
                None => self.refuse(word, &format!("{value:?} is no watchdog")),
            },
            _ => match value.parse::<u64>() {
                Ok(seconds) if seconds <= MAX_ROOT_WAIT => self.root_wait = Duration::from_secs(seconds),
                Ok(_) | Err(_) => self.refuse(word, &format!("{value:?} is out of range")),
            },
        }
    }

    fn refuse(&mut self, word: &Word, message: &str) {
        self.warn(word.name, message, Some(format!("write {}={}", word.name, word.value.replace('`', ""))));
    }

    fn warn(&mut self, name: &str, message: impl Into<String>, remedy: Option<String>) {
        let mut problem = Problem::warning(name, message);
        problem.remedy = remedy;
        self.problems.push(problem);
    }
}

fn location(value: &str) -> Option<Location> {
    match value.strip_prefix("LABEL=") {
        Some(rest) => {
            let (label, path) = rest.split_once(':')?;
            (is_label(label) && is_file_path(path))
                .then(|| Location::Label { label: label.into(), path: path.into() })
        }
        None if value == NOWHERE => Some(Location::Nowhere),
        None => is_file_path(value).then(|| Location::Path(value.into())),
    }
}

/// An absolute path to a file that does not climb.
fn is_file_path(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && path.split('/').all(|part| part != "..")
}

/// GPT allows 36 UTF-16 units; a slash or a control character would only be a mistake.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.encode_utf16().count() <= 36
        && !label.contains(|letter: char| letter == '/' || letter.is_control())
}

/// The kernel's words in order as (name, value), by the rules of `next_arg` in its lib/cmdline.c: white space ends
/// a word outside of double quotes; a quote may open anywhere and one left open runs to the end of the text;
/// there are no escapes; only a quote at the very beginning and end of a word or of its value is taken off.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&byte| !is_space(byte))?;
        let (_, from_word) = rest.split_at_checked(start)?;
        let mut in_quotes = false;
        let end = from_word.iter().position(|&byte| {
            in_quotes ^= byte == b'"';
            is_space(byte) && !in_quotes
        });
        let (word, after) = from_word.split_at_checked(end.unwrap_or(from_word.len()))?;
        rest = after;
        Some(split(word))
    })
}

fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (word, quoted) = match word.strip_prefix(b"\"") {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    // The kernel does not take a `=` at the very beginning for the end of a name.
    let equals = word.iter().skip(1).position(|&byte| byte == b'=').map(|index| index + 1);
    match equals.and_then(|index| word.split_at_checked(index)) {
        Some((name, value)) => {
            let value = value.strip_prefix(b"=").unwrap_or(value);
            let (value, value_quoted) = match value.strip_prefix(b"\"") {
                Some(rest) => (rest, true),
                None => (value, false),
            };
            let end = if quoted || value_quoted { value.strip_suffix(b"\"") } else { None };
            (name, Some(end.unwrap_or(value)))
        }
        None => (if quoted { word.strip_suffix(b"\"").unwrap_or(word) } else { word }, None),
    }
}

/// The kernel's `isspace`, which also takes Latin-1's no-break space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0)
}

/// The kernel's `parameq`: dashes and underscores are alike.
fn same_name(left: &str, right: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
    left.len() == right.len() && left.bytes().map(fold).eq(right.bytes().map(fold))
}

/// The README's table of [`WORDS`].
pub fn reference() -> String {
    let mut table = String::from("| word | value | meaning | default |\n|---|---|---|---|\n");
    for Word { name, value, meaning, default } in WORDS {
        table += &format!("| `{name}=` | {value} | {meaning} | {default} |\n");
    }
    table
}

#[cfg(test)]
#[path = "cmdline_tests.rs"]
mod tests;
