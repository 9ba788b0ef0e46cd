//! The globbing of `modules.alias`: fnmatch(3) as depmod's patterns use it, without path rules.
//!
//! Time is bounded by pattern length times text length; there is no recursion and no allocation.

/// Whether `text` as a whole matches `pattern`: `*`, `?`, `[a-f]`, `[!0]`, `\` before a letter that stands for
/// itself; `-` and `_` are the same. A `[` that is never closed is a plain letter.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // What follows the last `*`, and where in the text it was tried last.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let went_on = match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', after)), _) => {
                pattern = after;
                retry = Some((after, text));
                true
            }
            (Some(_), Some((letter, tail))) => match take_one(pattern, *letter) {
                Some(after) => {
                    (pattern, text) = (after, tail);
                    true
                }
                None => false,
            },
            (None, Some(_)) | (Some(_), None) => false,
        };
        if went_on {
            continue;
        }
        let Some((after, [_, tail @ ..])) = retry else { return false };
        (pattern, text) = (after, tail);
        retry = Some((after, tail));
    }
}

/// Texts that thousands of patterns are tried on. Most patterns begin with a long literal part (`pci:v00008086d0000…`),
/// so a binary search for that part leaves few texts or none to match against.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    /// Each with `_` for `-`, by which they are sorted.
    sorted: Vec<(Vec<u8>, &'a str)>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<_> =
            texts.into_iter().map(|text| (text.bytes().map(same).collect(), text)).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// Those that match a pattern.
    pub(super) fn matching(&self, pattern: &str) -> impl Iterator<Item = &'a str> {
        let literal =
            pattern.find(['*', '?', '[', '\\']).and_then(|end| pattern.get(..end)).unwrap_or(pattern);
        // How the beginning of a text, as long as the literal part, compares to that part.
        let order = |text: &[u8]| text.iter().copied().take(literal.len()).cmp(literal.bytes().map(same));
        let start = self.sorted.partition_point(|(text, _)| order(text).is_lt());
        let rest = self.sorted.get(start..).unwrap_or_default();
        let candidates = rest.iter().take_while(move |(text, _)| order(text).is_eq());
        candidates.map(|(_, text)| *text).filter(move |text| matches(pattern, text))
    }
}

/// What is left of the pattern when its first element stands for `letter`.
fn take_one(pattern: &[u8], letter: u8) -> Option<&[u8]> {
    let (first, after) = pattern.split_first()?;
    match first {
        b'?' => return Some(after),
        b'[' => {
            if let Some((is_member, after)) = take_set(after, letter) {
                return is_member.then_some(after);
            }
        }
        b'\\' => {
            if let Some((escaped, after)) = after.split_first() {
                return (same(*escaped) == same(letter)).then_some(after);
            }
        }
        _ => {}
    }
    (same(*first) == same(letter)).then_some(after)
}

/// Reads a set after its `[`: whether `letter` is in it, and what follows its `]`. `None`: it is never closed.
fn take_set(set: &[u8], letter: u8) -> Option<(bool, &[u8])> {
    let (inverted, mut rest) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut is_member = false;
    let mut is_first = true;
    loop {
        rest = match rest {
            [b']', after @ ..] if !is_first => return Some((is_member != inverted, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                is_member |= (*low..=*high).contains(&letter);
                after
            }
            [one, after @ ..] => {
                is_member |= same(*one) == same(letter);
                after
            }
            [] => return None,
        };
        is_first = false;
    }
}

/// `-` and `_` are the same letter in a module's name.
const fn same(letter: u8) -> u8 {
    if letter == b'-' { b'_' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::{Texts, matches};
    use proptest::prelude::*;

    #[test]
    fn patterns_of_real_tables() {
        let virtio_gpu = "pci:v00001AF4d00001050sv00001AF4sd00001100bc03sc00i00";
        for (pattern, text, want) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", virtio_gpu, true),
            ("pci:v00001AF4d*sv*sd*bc02sc*i*", virtio_gpu, false),
            ("pci:v*d*sv*sd*bc03sc00i*", virtio_gpu, true),
            ("acpi*:LNXPWRBN:*", "acpi:LNXPWRBN:", true),
            ("acpi*:LNXPWRBN:*", "acpi:PNP0C0C:", false),
            ("input:b*v*p*e*-e*k*", "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw", true),
            (
                "usb:v0BDAp8153d*dc*dsc*dp*icFFiscFFip00in*",
                "usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00",
                true,
            ),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*0099*",
                "cpu:type:x86,ven0000fam0006mod0055:feature:,0000,0099,",
                true,
            ),
            ("usb:v1234p*d0[1-9]*", "usb:v1234p0000d05", true),
            ("usb:v1234p*d0[1-9]*", "usb:v1234p0000d00", false),
            ("usb:v1234p*d0[0-2A-F]", "usb:v1234p0000d0C", true),
            ("nf-conntrack-2", "nf_conntrack-2", true),
            ("fs-erofs", "fs_erofs", true),
            ("crypto-crc32c", "crypto-crc32", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn corners_of_globbing() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("a*", "a", true),
            ("?", "", false),
            ("?", "x", true),
            ("*a*b", "xaxxab", true),
            ("*a*b", "xaxxa", false),
            ("[!a]", "b", true),
            ("[!a]", "a", false),
            ("[^a]", "a", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("[a", "a", false),
            ("[a-]", "-", true),
            ("[z-a]", "m", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("\\", "\\", true),
            ("a*[", "axx[", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} on {text}");
        }
    }

    /// What globbing means, told without any care for speed.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            (['?', rest @ ..], [_, tail @ ..]) => slow(rest, tail),
            ([one, rest @ ..], [letter, tail @ ..]) => one == letter && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_a_star_at_the_end_takes_nothing_away(
            pattern in r"[\PC*?\[\]\\!^-]{0,40}", text in r"\PC{0,60}", more in r"\PC{0,5}",
        ) {
            if matches(&pattern, &text) && !pattern.ends_with('\\') {
                let pattern = format!("{pattern}*");
                let more = format!("{text}{more}");
                prop_assert!(matches(&pattern, &text) && matches(&pattern, &more));
            }
        }

        #[test]
        fn stars_mean_what_the_slow_way_says(pattern in "[ab*?]{0,10}", text in "[ab]{0,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn texts_give_what_matching_one_by_one_gives(
            pattern in r"[a-c_-]{0,3}[a-c*?\[\\_-]{0,4}",
            texts in proptest::collection::vec("[a-c_-]{0,6}", 0..20),
        ) {
            let all = Texts::new(texts.iter().map(String::as_str));
            let mut have: Vec<&str> = all.matching(&pattern).collect();
            let mut want: Vec<&str> = texts.iter().map(String::as_str).filter(|text| matches(&pattern, text)).collect();
            have.sort_unstable();
            want.sort_unstable();
            prop_assert_eq!(have, want);
        }

        #[test]
        fn a_plain_name_matches_itself_alone(name in "[a-z0-9_]{1,20}", other in "[a-z0-9_]{1,20}") {
            prop_assert!(matches(&name, &name.replace('_', "-")));
            prop_assert_eq!(matches(&name, &other), name == other);
        }
    }
}
