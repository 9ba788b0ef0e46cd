//! What a change of a text changes, as `diff -u` shows it; and a node's own diff in colours.
//!
//! Secrets never show: the value of a key that holds one is replaced before anything is compared for people.

use crate::style::Style;
use podium_init::config::SECRETS;
use similar::TextDiff;

/// What stands in place of a secret.
const HIDDEN: &str = "(secret)";
/// Shorter values of `key:` are names, not keys.
const SHORTEST_SECRET: usize = 40;

/// The unified diff with three lines around each change; empty when nothing differs.
pub fn unified(old: &str, new: &str, style: Style) -> String {
    if old == new {
        return String::new();
    }
    let (shown, old_secrets) = hide(old, "");
    // Two secrets that differ still show as a change.
    let (_, new_secrets) = hide(new, "");
    let mark = if old_secrets == new_secrets { "" } else { " (changed)" };
    let (old, new) = (shown, hide(new, mark).0);
    let diff = TextDiff::from_lines(&old, &new);
    let text = diff.unified_diff().context_radius(3).header("in force", "wanted").to_string();
    coloured(&text, style)
}

/// Lines of a diff in colours: what comes green, what goes red.
pub fn coloured(diff: &str, style: Style) -> String {
    let line = |line: &str| {
        let shown = crate::table::printable(line);
        let painted = match line.chars().next() {
            Some('+') => style.green(&shown),
            Some('-') => style.red(&shown),
            Some('~') => style.yellow(&shown),
            Some('@') => style.blue(&shown),
            _ => shown,
        };
        format!("{painted}\n")
    };
    diff.lines().map(line).collect()
}

/// A line of a machine config whose secret, if it has one, is replaced.
pub fn without_secret(line: &str) -> String {
    secret_of(line).map_or_else(|| line.to_owned(), |secret| line.replace(secret, HIDDEN))
}

/// The text without its secrets, each with `mark` behind, and what was left out. A secret may go on over the lines below
/// its key, as one in PEM does.
fn hide<'t>(text: &'t str, mark: &str) -> (String, Vec<&'t str>) {
    let (mut shown, mut secrets) = (String::new(), Vec::new());
    let mut below: Option<Below> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        below = below.filter(|below| line.trim().is_empty() || indent > below.indent);
        if let Some(below) = &below
            && !line.trim().is_empty()
            && (below.is_whole || !is_entry(line))
        {
            secrets.push(line.trim());
            shown += &format!("{:indent$}{HIDDEN}{mark}\n", "");
            continue;
        }
        below = below_of(line, indent).or(below);
        match secret_of(line) {
            Some(secret) => {
                secrets.push(secret);
                shown += &format!("{}{mark}\n", line.replace(secret, HIDDEN));
            }
            None => shown += &format!("{line}\n"),
        }
    }
    (shown, secrets)
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
    let name = name.trim_matches(['"', '\'']);
    let value = value.trim();
    let is_header = SECRETS.iter().any(|path| path.ends_with(&format!(".{name}")));
    if !is_header && !name.to_ascii_lowercase().ends_with("key") {
        return None;
    }
    Some(Below { indent, is_whole: value.starts_with(['|', '>']) || is_header && name != "key" })
}

/// An item of a list, or a key of a mapping.
fn is_entry(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("- ") || line.ends_with(':') || line.contains(": ")
}

/// The secret in a line: the value of `key:` or of a key that ends in it, if it is long enough for one.
fn secret_of(line: &str) -> Option<&str> {
    // Not the last one alone: a secret may have these letters itself.
    line.to_ascii_lowercase().match_indices("key").find_map(|(at, name)| {
        let rest = line.get(at + name.len()..)?.trim_start_matches(['"', '\'']).trim_start();
        let value = rest.strip_prefix(':')?.trim().trim_matches(['"', '\'']);
        let value = value.split([',', '}', ' ']).next()?;
        (value.len() >= SHORTEST_SECRET).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        let old = "a: 1\nb: 2\nc: 3\n";
        assert_eq!(
            unified(old, "a: 1\nb: 4\nc: 3\n", Style::default()),
            "--- in force\n+++ wanted\n@@ -1,3 +1,3 @@\n a: 1\n-b: 2\n+b: 4\n c: 3\n"
        );
        assert_eq!(unified(old, old, Style::default()), "");
    }

    #[test]
    fn secrets_never_show_and_their_change_does() {
        let (one, two) = ("QUJD".repeat(20), "REVG".repeat(20));
        let text = |secret: &str| format!("ca:\n  key: {secret}\nflow: {{key: {secret}, x: 1}}\n");
        let diff = unified(&text(&one), &text(&two), Style::default());
        assert!(!diff.contains(&one) && !diff.contains(&two), "{diff}");
        assert!(
            diff.contains("-  key: (secret)\n") && diff.contains("+  key: (secret) (changed)\n"),
            "{diff}"
        );
        let pem = |body: &str| {
            let lines =
                format!("ca:\n  key: |\n    -----BEGIN\n    {body}\n\n    {body}\n    -----END\n  crt: c\n");
            format!("{lines}folded:\n  key:\n    {body}\nref:\n  secretKeyRef:\n    name: n\n")
        };
        let diff = unified(&pem("short"), &pem("other"), Style::default());
        assert!(!diff.contains("short") && !diff.contains("other") && !diff.contains("BEGIN"), "{diff}");
        assert!(diff.contains("+    (secret) (changed)\n") && diff.contains("   crt: c\n"), "{diff}");
        let header = |text: &str| {
            format!("kubelet:\n  staticPodURLHeader:\n    Authorization:\n      - {text}\n  a: 1\n")
        };
        let diff = unified(&header("Bearer one"), &header("Bearer two"), Style::default());
        assert!(
            !diff.contains("Bearer") && diff.contains("(changed)") && diff.contains("   a: 1\n"),
            "{diff}"
        );
        assert_eq!(hide(&pem("x"), "").0.matches("name: n").count(), 1, "a reference is no secret");
        assert_eq!(without_secret("  key: short"), "  key: short");
        assert_eq!(without_secret(&format!("  key: {one}kEy{one}")), "  key: (secret)");
        assert_eq!(without_secret(&format!("  aescbcKey: \"{one}\"")), "  aescbcKey: \"(secret)\"");
    }
}
