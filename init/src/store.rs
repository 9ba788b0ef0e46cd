//! The stored form of a machine config: the text itself behind one comment line that tells whether it is whole.
//!
//! `# podium: generation=7 digest=… source=…` and then the text, byte for byte: a person can read the file, and put
//! one without that line in its place. A file whose line and text do not belong together is damaged (or was edited
//! below a line that was left) and is never used. [`choose`] says in which order a boot tries what STATE holds.
//! Nothing here touches a disk; the binary's `stored.rs` does.

use crate::digest::fnv1a;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the line begins; a comment to YAML.
const MARK: &[u8] = b"# podium: ";
/// The longest line; what is longer is somebody's own comment.
const LINE_MAX: usize = 512;
/// Bytes of [`Seal::source`] that are kept.
const SOURCE_MAX: usize = 200;
/// Boots that a config gets to prove itself before the last known good one takes its place: one may be cut off by a
/// power loss, two are a pattern.
pub const BOOTS_TO_PROVE: u32 = 2;
/// How many generations are kept for `config history` and `config rollback`.
pub const HISTORY: usize = 10;
/// How many rejected configs are kept for inspection.
pub const REJECTED: usize = 5;

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Counts the configs of this node, from 1.
    pub generation: u64,
    /// Where the text came from, as in the boot log.
    pub source: String,
}

/// A stored config that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    /// `None`: put there by a person.
    pub seal: Option<Seal>,
    /// The text as it was given.
    pub text: &'a [u8],
}

/// Why a stored config cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "its checksum does not match: damaged, or edited below its first line; remove that line to have the \
             text taken as it is",
        )
    }
}

/// The source of a generation that somebody has gone back to.
pub fn again(generation: u64, by: &str) -> String {
    format!("generation {generation} again, by {by}")
}

/// The generation that one with this source repeats, if it does.
pub fn again_of(source: &str) -> Option<u64> {
    let (generation, _) = source.strip_prefix("generation ")?.split_once(" again, by ")?;
    generation.parse().ok()
}

/// The bytes to store.
pub fn seal(text: &[u8], seal: &Seal) -> Vec<u8> {
    let line = said(seal);
    let digest = digest(&line, text);
    let mut bytes = format!("# podium: {line} digest={digest:032x}\n").into_bytes();
    bytes.extend_from_slice(text);
    bytes
}

/// Reads what is stored.
///
/// # Errors
/// The line and the text do not belong together.
pub fn open(bytes: &[u8]) -> Result<Stored<'_>, Damaged> {
    let Some(rest) = bytes.strip_prefix(MARK) else { return Ok(Stored { seal: None, text: bytes }) };
    let end = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n').ok_or(Damaged)?;
    let (line, text) = (rest.get(..end).ok_or(Damaged)?, rest.get(end + 1..).ok_or(Damaged)?);
    let line = std::str::from_utf8(line).map_err(|_| Damaged)?;
    let (line, given) = line.rsplit_once(" digest=").ok_or(Damaged)?;
    if given != format!("{:032x}", digest(line, text)) {
        return Err(Damaged);
    }
    let line = line.strip_prefix("generation=").ok_or(Damaged)?;
    let (generation, source) = line.split_once(" source=").ok_or(Damaged)?;
    let seal = Seal { generation: generation.parse().map_err(|_| Damaged)?, source: source.to_owned() };
    Ok(Stored { seal: Some(seal), text })
}

/// The line without its digest. A source that could end the line is cut to what cannot.
fn said(seal: &Seal) -> String {
    let plain = seal.source.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut source: String = plain.collect();
    let end = (0..=SOURCE_MAX.min(source.len())).rev().find(|end| source.is_char_boundary(*end));
    source.truncate(end.unwrap_or(0));
    format!("generation={} source={source}", seal.generation)
}

/// Over the line too: a flipped bit in the generation is damage as well.
fn digest(line: &str, text: &[u8]) -> u128 {
    let mut whole = Vec::with_capacity(line.len() + 1 + text.len());
    whole.extend_from_slice(line.as_bytes());
    whole.push(b'\n');
    whole.extend_from_slice(text);
    fnv1a(&whole)
}

/// What STATE holds, as far as the choice depends on it. Generations; `Some(0)` is a file without a seal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Waits for this boot.
    pub staged: Option<u64>,
    /// The current one.
    pub current: Option<u64>,
    /// The last one under which kubelet and pods came up.
    pub good: Option<u64>,
    /// Boots that the current one has had without proving itself.
    pub unproven_boots: u32,
    /// The current one is kept all the same.
    pub kept: Option<Kept>,
}

/// Why a config is kept that has not proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// The node was not well before it.
    Always,
    /// Not all pods ran before it. The kubelet did, so without one the node goes back.
    WithKubelet,
    /// It came up as far as it goes: some of its pods cannot be run, so it is never the last known good one.
    Partial,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::WithKubelet, Self::Partial];

    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::WithKubelet => "with-kubelet",
            Self::Partial => "partial",
        }
    }

    /// The one with that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kept| kept.word() == word)
    }
}

/// What a config of a boot owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There is none to go back to.
    Only,
    /// It comes up, or the node goes back; less is asked of one that is kept.
    OrBack(Option<Kept>),
}

/// What the current one owes at a boot, if anything.
pub fn owed(holdings: &Holdings) -> Option<Proof> {
    let Holdings { current, good, kept, .. } = *holdings;
    if current == good || kept == Some(Kept::Partial) {
        return None;
    }
    Some(if good.is_some() { Proof::OrBack(kept) } else { Proof::Only })
}

/// One of the stored configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// To be taken at the next boot.
    Staged,
    /// The one that was acknowledged last.
    Current,
    /// The last known good one.
    Good,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staged => "staged config",
            Self::Current => "stored config",
            Self::Good => "last known good config",
        })
    }
}

/// The order in which a boot tries them. A current one that has had its boots comes after the good one, so that a
/// config under which the node does not stay up cannot brick it; unless it is kept on purpose.
pub fn choose(holdings: &Holdings) -> Vec<Slot> {
    let Holdings { staged, current, good, unproven_boots, kept } = *holdings;
    let proven = current == good;
    let gave_up = !proven && good.is_some() && kept.is_none() && unproven_boots >= BOOTS_TO_PROVE;
    let mut order = Vec::with_capacity(3);
    order.extend(staged.map(|_| Slot::Staged));
    if gave_up {
        order.extend(good.map(|_| Slot::Good));
        order.extend(current.map(|_| Slot::Current));
    } else {
        order.extend(current.map(|_| Slot::Current));
        // The same text twice says nothing new, but one copy of it may be damaged.
        order.extend(good.map(|_| Slot::Good));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"version: v1alpha1\nmachine: {}\n";

    fn sealed() -> Vec<u8> {
        seal(TEXT, &Seal { generation: 7, source: "kernel command line (inline)".into() })
    }

    #[test]
    fn what_was_sealed_is_read_again() {
        let bytes = sealed();
        let stored = open(&bytes).unwrap();
        assert_eq!(stored.text, TEXT);
        let seal = stored.seal.unwrap();
        assert_eq!((seal.generation, seal.source.as_str()), (7, "kernel command line (inline)"));
        assert!(bytes.starts_with(b"# podium: generation=7 source=kernel"));
    }

    #[test]
    fn a_persons_file_has_no_seal_and_is_taken_as_it_is() {
        for text in [TEXT, b"", b"# podium is fine\n", b"\x28\xb5\x2f\xfd"] {
            assert_eq!(open(text), Ok(Stored { seal: None, text }));
        }
    }

    #[test]
    fn one_flipped_bit_is_damage_or_leaves_the_text_as_it_was() {
        let bytes = sealed();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                match open(&flipped) {
                    Err(Damaged) => {}
                    // The mark itself: then the line is a comment or the text is no YAML, and nothing was mistaken.
                    Ok(stored) => {
                        assert!(place < MARK.len() && stored.seal.is_none(), "{place}.{bit}");
                        assert!(stored.text.ends_with(TEXT));
                    }
                }
            }
        }
    }

    #[test]
    fn a_cut_off_file_is_damaged() {
        let bytes = sealed();
        for end in MARK.len()..bytes.len() {
            assert_eq!(open(&bytes[..end]), Err(Damaged), "{end}");
        }
    }

    #[test]
    fn no_source_can_end_its_line() {
        let source = "a\nmachine: {}\u{85}ä".repeat(40);
        let bytes = seal(TEXT, &Seal { generation: 1, source });
        let stored = open(&bytes).unwrap();
        assert_eq!(stored.text, TEXT);
        assert!(stored.seal.unwrap().source.len() <= SOURCE_MAX);
    }

    #[test]
    fn a_boot_tries_the_staged_one_then_the_current_then_the_good_one() {
        let all = Holdings { staged: Some(3), current: Some(2), good: Some(1), ..Holdings::default() };
        assert_eq!(choose(&all), [Slot::Staged, Slot::Current, Slot::Good]);
        assert_eq!(choose(&Holdings::default()), []);
        let unsealed = Holdings { current: Some(0), ..Holdings::default() };
        assert_eq!(choose(&unsealed), [Slot::Current]);
    }

    #[test]
    fn a_current_one_that_never_proves_itself_gives_way() {
        let boots = |unproven_boots| Holdings {
            current: Some(2),
            good: Some(1),
            unproven_boots,
            ..Holdings::default()
        };
        assert_eq!(choose(&boots(BOOTS_TO_PROVE - 1)), [Slot::Current, Slot::Good]);
        assert_eq!(choose(&boots(BOOTS_TO_PROVE)), [Slot::Good, Slot::Current]);
        let proven = Holdings { good: Some(2), ..boots(9) };
        assert_eq!(choose(&proven), [Slot::Current, Slot::Good]);
        let alone = Holdings { good: None, ..boots(9) };
        assert_eq!(choose(&alone), [Slot::Current]);
        for kept in Kept::ALL {
            let kept = Holdings { kept: Some(kept), ..boots(9) };
            assert_eq!(choose(&kept), [Slot::Current, Slot::Good], "it does not give way");
        }
    }

    #[test]
    fn what_a_boot_asks_of_a_config_depends_on_how_the_node_was_before_it() {
        let new = Holdings { current: Some(2), good: Some(1), ..Holdings::default() };
        assert_eq!(owed(&new), Some(Proof::OrBack(None)));
        assert_eq!(owed(&Holdings { good: None, ..new }), Some(Proof::Only));
        assert_eq!(owed(&Holdings { good: Some(2), ..new }), None);
        let kept = |kept| owed(&Holdings { kept: Some(kept), ..new });
        assert_eq!(kept(Kept::Always), Some(Proof::OrBack(Some(Kept::Always))));
        assert_eq!(kept(Kept::Partial), None, "it came up as far as it goes");
        for kept in Kept::ALL {
            assert_eq!(Kept::named(kept.word()), Some(kept));
            assert_eq!(serde_json::to_value(kept).unwrap(), kept.word());
        }
    }
}
