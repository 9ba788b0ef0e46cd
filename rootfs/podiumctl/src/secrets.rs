//! A machine config's text without its secrets, line by line, for people to look at.
//!
//! It reads no YAML: what is shown may be half written. So it goes by keys and their values' form, in doubt it hides, and
//! every line stays a line, so that numbers of lines hold. Nothing here decides what a node takes.

use podium_init::config::SECRETS;
use std::ops::Range;

/// What stands in place of a secret.
const HIDDEN: &str = "(secret)";
/// Shorter values of `key:` are names, not keys.
const SHORTEST_SECRET: usize = 40;

/// The text without its secrets, each line that had one with `mark` at its end, and what was left out. A secret may go
/// on over the lines below its key, as one in PEM does, or until the end of a flow mapping.
pub fn hide<'t>(text: &'t str, mark: &str) -> (String, Vec<&'t str>) {
    let (mut shown, mut secrets) = (String::new(), Vec::new());
    let mut below: Option<Below> = None;
    let mut flow: Option<Flow> = None;
    let mut awaited: Option<Awaited> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if !line.trim().is_empty()
            && let Some(place) = awaited.take()
        {
            if begins_flow(line) {
                flow = Some(Flow::default());
            } else if place == Awaited::InFlow {
                secrets.push(line.trim());
                shown += &hidden_line(line, indent, mark);
                continue;
            }
        }
        if let Some(open) = &mut flow {
            if let Some(end) = open.end_in(line) {
                flow = line.get(end..).and_then(|rest| secrets_of(rest).1);
            }
            // What stands behind the end is hidden with it: it may be the rest of another secret's mapping.
            shown += &hidden_line(line, indent, mark);
            secrets.extend(Some(line.trim()).filter(|line| !line.is_empty()));
            continue;
        }
        below = below.filter(|below| line.trim().is_empty() || indent > below.indent);
        if let Some(below) = &below
            && !line.trim().is_empty()
            && (below.is_whole || !is_entry(line))
        {
            let mut open = Flow::default();
            if begins_flow(line) && open.end_in(line).is_none() {
                flow = Some(open);
            }
            secrets.push(line.trim());
            shown += &hidden_line(line, indent, mark);
            continue;
        }
        below = below_of(line, indent).or(below);
        let (parts, open) = secrets_of(line);
        flow = open;
        awaited = awaited_behind(line);
        shown += &without(line, &parts);
        if !parts.is_empty() {
            shown += mark;
        }
        shown.push('\n');
        secrets.extend(parts.into_iter().filter_map(|part| line.get(part)));
    }
    (shown, secrets)
}

fn hidden_line(line: &str, indent: usize, mark: &str) -> String {
    if line.trim().is_empty() { "\n".to_owned() } else { format!("{:indent$}{HIDDEN}{mark}\n", "") }
}

/// The line with each of these parts of it replaced, and what else of it is the same as a long one.
fn without(line: &str, parts: &[Range<usize>]) -> String {
    let (mut shown, mut from) = (String::new(), 0);
    for part in parts {
        shown += line.get(from..part.start).unwrap_or_default();
        shown += HIDDEN;
        from = part.end;
    }
    shown += line.get(from..).unwrap_or_default();
    let secrets = parts.iter().filter_map(|part| line.get(part.clone()));
    let long = secrets.filter(|secret| secret.len() >= SHORTEST_SECRET);
    long.fold(shown, |shown, secret| shown.replace(secret, HIDDEN))
}

/// What stands deeper than the key of a secret belongs to it.
#[derive(Debug)]
struct Below {
    indent: usize,
    /// All of it, not only what is no entry of its own.
    is_whole: bool,
}

fn below_of(line: &str, indent: usize) -> Option<Below> {
    let (name, value) = line.trim().trim_start_matches("- ").split_once(':')?;
    let name = name.trim_end().trim_matches(['"', '\'']);
    let value = value.trim();
    let is_mapping = mappings().any(|mapping| mapping == name);
    if !is_mapping && !name.to_ascii_lowercase().ends_with("key") {
        return None;
    }
    Some(Below { indent, is_whole: value.starts_with(['|', '>']) || is_mapping })
}

/// Keys all of whose value is secret, however it is written. Of `key` alone, which is the name of much that is none, the
/// value decides.
fn mappings() -> impl Iterator<Item = &'static str> {
    SECRETS.iter().filter_map(|path| path.rsplit('.').next()).filter(|name| *name != "key")
}

/// Where a secret's key ends its line, so that the value begins on the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Indentation tells what belongs to it, but for a flow mapping.
    InBlock,
    InFlow,
}

fn awaited_behind(line: &str) -> Option<Awaited> {
    let ends = mappings().chain(["key"]).find_map(|name| {
        let (at, name) = line.match_indices(name).last()?;
        let value = line.get(value_at(line, at + name.len())?..)?;
        (value.is_empty() || value.starts_with('#')).then_some(at)
    })?;
    let is_in_flow = line.get(..ends)?.contains(['{', '[', ',']);
    Some(if is_in_flow { Awaited::InFlow } else { Awaited::InBlock })
}

fn begins_flow(line: &str) -> bool {
    line.trim_start().trim_start_matches("- ").starts_with(['{', '['])
}

/// An item of a list, or a key of a mapping.
fn is_entry(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("- ") || line.ends_with(':') || line.contains(": ")
}

/// The places of the secrets in a line, in their order; and the flow mapping that goes on below it, if the last does.
fn secrets_of(line: &str) -> (Vec<Range<usize>>, Option<Flow>) {
    let (mut parts, mut open) = (Vec::new(), None);
    let mut from = 0;
    loop {
        let mapping = mapping_in(line, from);
        let key = key_in(line, from);
        let part = match (mapping, key) {
            (Some((part, flow)), key) if key.as_ref().is_none_or(|key| part.start <= key.start) => {
                open = flow;
                part
            }
            (_, Some(key)) => key,
            (_, None) => break,
        };
        from = part.end;
        parts.push(part);
    }
    (parts, open)
}

/// The value of a key whose whole value is secret, from this byte on.
fn mapping_in(line: &str, from: usize) -> Option<(Range<usize>, Option<Flow>)> {
    let values = mappings().flat_map(|name| line.match_indices(name).map(|(at, name)| at + name.len()));
    let start = values.filter(|end| *end >= from).filter_map(|end| value_at(line, end)).min()?;
    let value = line.get(start..)?.trim_end();
    if value.is_empty() || value.starts_with('#') {
        return None;
    }
    let whole = start..start + value.len();
    // Plain text ends with its line; brackets, behind an anchor or a tag too, end where they close.
    if !value.starts_with(['{', '[', '&', '!']) {
        return Some((whole, None));
    }
    let mut flow = Flow::default();
    Some(match flow.end_in(value) {
        Some(end) => (start..start + end, None),
        None if flow.depth > 0 => (whole, Some(flow)),
        None => (whole, None),
    })
}

/// The value of `key:`, or of a key that ends in it, if it is long enough for a secret.
fn key_in(line: &str, from: usize) -> Option<Range<usize>> {
    // Not the first one alone: a secret may have these letters itself.
    line.to_ascii_lowercase().match_indices("key").filter(|(at, _)| *at >= from).find_map(|(at, name)| {
        let start = value_at(line, at + name.len())?;
        let value = line.get(start..)?;
        let quoted = value.strip_prefix(['"', '\'']);
        let value = match quoted {
            // To the quote that closes it: what is within may be anything.
            Some(rest) => rest.split(value.get(..1)?).next()?,
            // PEM where its base64 is wanted.
            None if value.contains("PRIVATE KEY") => value,
            None => value.split([',', '}', ' ']).next()?,
        };
        let start = start + usize::from(quoted.is_some()) + value.len() - value.trim_start().len();
        let value = value.trim_start();
        (value.len() >= SHORTEST_SECRET).then_some(start..start + value.len())
    })
}

/// Where the value begins of a key that ends at this byte.
fn value_at(line: &str, end: usize) -> Option<usize> {
    let rest = line.get(end..)?.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?;
    Some(line.len() - rest.trim_start().len())
}

/// How deep a flow mapping or list is open, over lines.
#[derive(Debug, Default)]
struct Flow {
    depth: usize,
    quote: Option<char>,
}

impl Flow {
    /// Takes one line; behind which byte of it the whole has closed.
    fn end_in(&mut self, line: &str) -> Option<usize> {
        let (mut before, mut is_escaped) = (' ', false);
        // Quotes begin where a value does: those within plain text are letters.
        let mut can_quote = true;
        for (at, character) in line.char_indices() {
            let was_quoted = self.quote.is_some();
            match (self.quote, character) {
                (Some('"'), '\\') if !is_escaped => {
                    is_escaped = true;
                    continue;
                }
                (Some(quote), _) => {
                    if character == quote && !is_escaped {
                        self.quote = None;
                    }
                }
                (None, '"' | '\'') if can_quote => self.quote = Some(character),
                (None, '#') if before == ' ' => return None,
                (None, '{' | '[') => self.depth += 1,
                (None, '}' | ']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + character.len_utf8());
                    }
                }
                (None, _) => {}
            }
            is_escaped = false;
            before = character;
            // Behind a quote that closes the same one again is a quote in the text.
            let has_closed = was_quoted && self.quote.is_none();
            can_quote =
                has_closed || matches!(character, '{' | '[' | ',' | ':') || can_quote && character == ' ';
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        hide(text, "").0
    }

    #[test]
    fn a_header_in_one_line_is_hidden_in_every_form() {
        for (line, wanted) in [
            ("    staticPodURLHeader: {Authorization: [Bearer secret]}", "    staticPodURLHeader: (secret)"),
            ("staticPodURLHeader:   {A: [secret]}  # why", "staticPodURLHeader:   (secret)  # why"),
            ("staticPodURLHeader: Bearer secret", "staticPodURLHeader: (secret)"),
            ("staticPodURLHeader: &x {A: [secret]}", "staticPodURLHeader: (secret)"),
            (
                "kubelet: {staticPodURLHeader: {A: [\"s}e]cret\", 'it''s}']}, extraArgs: {v: 2}}",
                "kubelet: {staticPodURLHeader: (secret), extraArgs: {v: 2}}",
            ),
            (
                "kubelet: {staticPodURLHeader: {A: [it's a secret]}, b: 1}",
                "kubelet: {staticPodURLHeader: (secret), b: 1}",
            ),
            (
                r#"{"kubelet":{"staticPodURLHeader":{"A":["\"}secret"]},"b":1}}"#,
                r#"{"kubelet":{"staticPodURLHeader":(secret),"b":1}}"#,
            ),
            ("staticPodURLHeader: Pod", "staticPodURLHeader: (secret)"),
            ("staticPodURLHeader: {}", "staticPodURLHeader: (secret)"),
            ("staticPodURLHeader:", "staticPodURLHeader:"),
            ("staticPodURLHeader: # what is sent", "staticPodURLHeader: # what is sent"),
            ("staticPodURL: https://pods.example.org", "staticPodURL: https://pods.example.org"),
        ] {
            assert_eq!(shown(line).trim_end_matches('\n'), wanted);
        }
    }

    #[test]
    fn a_flow_mapping_is_hidden_to_its_end_and_the_lines_stay_lines() {
        let text =
            "kubelet: {staticPodURLHeader: {A: [ # }\nsecret one,\n\n'a } of\nsecret']}, b: 1}\nnext: 1\n";
        let (shown, secrets) = hide(text, "!");
        assert_eq!(
            shown,
            "kubelet: {staticPodURLHeader: (secret)!\n(secret)!\n\n(secret)!\n(secret)!\nnext: 1\n"
        );
        assert_eq!(secrets.len(), 4);
    }

    #[test]
    fn a_flow_mapping_behind_the_end_of_another_is_hidden_to_its_own_end() {
        let text = "[{staticPodURLHeader: {\nA: [b]}}, {staticPodURLHeader: {\nA: [secret]}}]\n";
        assert_eq!(shown(text), "[{staticPodURLHeader: (secret)\n(secret)\n(secret)\n");
    }

    #[test]
    fn every_key_of_a_line_is_hidden() {
        let (one, two) = ("QUJD".repeat(20), "REVG".repeat(20));
        let line = format!(
            "{{ca: {{key: {one}}}, staticPodURLHeader: {{A: [b]}}, other: {{aesKey: {two}, x: 1}}}} # {one}"
        );
        assert_eq!(
            shown(&line),
            "{ca: {key: (secret)}, staticPodURLHeader: (secret), other: {aesKey: (secret), x: 1}} # (secret)\n"
        );
    }

    #[test]
    fn a_value_is_a_key_by_its_length_and_not_by_the_letters_in_it() {
        let one = "QUJD".repeat(20);
        let without_secret = |line: &str| shown(line).trim_end_matches('\n').to_owned();
        assert_eq!(without_secret("  key: short"), "  key: short");
        assert_eq!(without_secret(&format!("  key: {one}kEy{one}")), "  key: (secret)");
        assert_eq!(without_secret(&format!("  aescbcKey: \"{one}\"")), "  aescbcKey: \"(secret)\"");
        assert_eq!(without_secret(&format!("  key: \" {one}\", x: 1")), "  key: \" (secret)\", x: 1");
    }

    #[test]
    fn a_key_in_pem_on_its_own_line_is_hidden() {
        let pem = "-----BEGIN ED25519 PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIA==\\n-----END";
        assert_eq!(shown(&format!("    key: \"{pem}\" # mine")), "    key: \"(secret)\" # mine\n");
        assert_eq!(shown(&format!("    key: '{pem}'")), "    key: '(secret)'\n");
        assert_eq!(shown(&format!("    key: {pem}")), "    key: (secret)\n");
        assert_eq!(
            shown(&format!("{{crt: x, key: \"{pem}\", b: 1}}")),
            "{crt: x, key: \"(secret)\", b: 1}\n"
        );
    }

    #[test]
    fn a_value_on_the_line_below_its_key_is_hidden() {
        for (text, wanted) in [
            (
                "  kubelet: {staticPodURLHeader:\n    {Authorization: [Bearer\n  secret]}}\n  next: 1\n",
                "  kubelet: {staticPodURLHeader:\n    (secret)\n  (secret)\n  next: 1\n",
            ),
            (
                "\"staticPodURLHeader\":\n{\"Authorization\": [\"secret\"]},\n\"next\": 1\n",
                "\"staticPodURLHeader\":\n(secret)\n\"next\": 1\n",
            ),
            (
                "staticPodURLHeader:\n  {A: [one,\ntwo],\nB: [three]}\nnext: 1\n",
                "staticPodURLHeader:\n  (secret)\n(secret)\n(secret)\nnext: 1\n",
            ),
            (
                "ca: {crt: x, key: # mine\n  QUJD}\nnext: 1\n",
                "ca: {crt: x, key: # mine\n  (secret)\nnext: 1\n",
            ),
            (
                "staticPodURLHeader:\n  A: [one]\nnext: {b: 1}\n",
                "staticPodURLHeader:\n  (secret)\nnext: {b: 1}\n",
            ),
            ("staticPodURLHeader:\nnext: 1\n", "staticPodURLHeader:\nnext: 1\n"),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }
}
