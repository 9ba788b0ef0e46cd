//! What a change of a text changes, as `diff -u` shows it; and a node's own diff in colours.
//!
//! Secrets never show: the value of a key that holds one is replaced before anything is compared for people.

use crate::secrets::hide;
use crate::style::Style;
use similar::TextDiff;

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
        let header = |text: &str| format!("kubelet:\n  staticPodURLHeader: {{A: [{text}]}}\n  a: 1\n");
        assert_eq!(
            unified(&header("Bearer one"), &header("Bearer two"), Style::default()),
            "--- in force\n+++ wanted\n@@ -1,3 +1,3 @@\n kubelet:\n-  staticPodURLHeader: (secret)\n+  staticPodURLHeader: (secret) (changed)\n   a: 1\n"
        );
    }
}
