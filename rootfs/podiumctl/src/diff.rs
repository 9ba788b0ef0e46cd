//! What a change of a text changes, as `diff -u` shows it; and a node's own diff in colours.
//!
//! Secrets never show: the value of a key that holds one is replaced before anything is compared for people.

use crate::style::Style;
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
    let hide = |text: &str, mark: &str| -> String {
        text.lines()
            .map(|line| {
                let shown = without_secret(line);
                // Two secrets that differ still show as a change.
                if shown == line { format!("{line}\n") } else { format!("{shown}{mark}\n") }
            })
            .collect()
    };
    let same_secrets = secrets(old) == secrets(new);
    let (old, new) = (hide(old, ""), hide(new, if same_secrets { "" } else { " (changed)" }));
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

fn secrets(text: &str) -> Vec<&str> {
    text.lines().filter_map(secret_of).collect()
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
        assert_eq!(without_secret("  key: short"), "  key: short");
        assert_eq!(without_secret(&format!("  key: {one}kEy{one}")), "  key: (secret)");
        assert_eq!(without_secret(&format!("  aescbcKey: \"{one}\"")), "  aescbcKey: \"(secret)\"");
    }
}
