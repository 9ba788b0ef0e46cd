//! Two JSON values in, one line for each place where they differ: what `config apply --dry-run` shows.
//!
//! Places are named as in a config's problems (`machine.env.A`), list items by their own name where all have one, so
//! that a pod that moved in its list is no change. Lines and their length are bounded: a diff is for people.

use crate::config::{MASK, SECRETS};
use serde_json::{Map, Value};

/// The most lines of a diff; one more counts the rest.
pub const MAX_LINES: usize = 500;
/// The most letters of a value in a line.
const MAX_VALUE: usize = 120;

/// The lines: `+ path: value`, `- path: value`, `~ path: old -> new`.
pub fn difference(old: &Value, new: &Value) -> Vec<String> {
    let mut lines = Lines { lines: Vec::new(), more: 0 };
    compare("", old, new, &mut lines);
    if lines.more > 0 {
        lines.lines.push(format!("… {} more lines", lines.more));
    }
    lines.lines
}

struct Lines {
    lines: Vec<String>,
    more: usize,
}

impl Lines {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }
}

fn compare(path: &str, old: &Value, new: &Value, lines: &mut Lines) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => maps(path, old, new, lines),
        (Value::Array(old), Value::Array(new)) => lists(path, old, new, lines),
        (old, new) if old == new => {}
        (Value::Null, new) => lines.add(|| format!("+ {path}: {}", short(path, new))),
        (old, Value::Null) => lines.add(|| format!("- {path}: {}", short(path, old))),
        (old, new) => lines.add(|| format!("~ {path}: {} -> {}", short(path, old), short(path, new))),
    }
}

fn maps(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, lines: &mut Lines) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    gone.for_each(|(key, value)| compare(&below(key), value, &Value::Null, lines));
    for (key, value) in new {
        compare(&below(key), old.get(key).unwrap_or(&Value::Null), value, lines);
    }
}

fn lists(path: &str, old: &[Value], new: &[Value], lines: &mut Lines) {
    if let (Some(old), Some(new)) = (named(old), named(new)) {
        let find = |list: &[(String, &Value)], name: &str| {
            list.iter().find(|(other, _)| other == name).map_or(Value::Null, |(_, value)| (*value).clone())
        };
        for (name, value) in old.iter().filter(|(name, _)| find(&new, name).is_null()) {
            compare(&format!("{path}[{name}]"), value, &Value::Null, lines);
        }
        for (name, value) in &new {
            compare(&format!("{path}[{name}]"), &find(&old, name), value, lines);
        }
        return;
    }
    for index in 0..old.len().max(new.len()) {
        let at = |list: &[Value]| list.get(index).cloned().unwrap_or(Value::Null);
        compare(&format!("{path}[{index}]"), &at(old), &at(new), lines);
    }
}

/// The items with their names: a pod's from its metadata, a container's, volume's or module's own, a file's path, an
/// interface's. `None` when one has none or two share one.
fn named(list: &[Value]) -> Option<Vec<(String, &Value)>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut items = Vec::with_capacity(list.len());
    for item in list {
        let name = name(item)?;
        if !seen.insert(name.clone()) {
            return None;
        }
        items.push((name, item));
    }
    Some(items)
}

fn name(item: &Value) -> Option<String> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
    match (text("/metadata/namespace"), text("/metadata/name")) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}-{name}")),
        (None, Some(name)) => Some(format!("default-{name}")),
        (_, None) => {
            let keys = ["/name", "/path", "/destination", "/interface", "/ip", "/mountPath"];
            keys.into_iter().find_map(text).map(str::to_owned)
        }
    }
}

/// A value in one line, without its secrets.
fn short(path: &str, value: &Value) -> String {
    let text = masked(path, value).to_string();
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn masked(path: &str, value: &Value) -> Value {
    let is_secret = |secret: &str| {
        path.strip_prefix(secret).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    match value {
        Value::Null => Value::Null,
        _ if SECRETS.iter().any(|secret| is_secret(secret)) => MASK.into(),
        Value::Object(map) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            map.iter().map(|(key, value)| (key.clone(), masked(&below(key), value))).collect()
        }
        // No secret is in a list.
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_difference_is_one_line_with_its_place() {
        let old = json!({"machine": {"env": {"A": "1", "B": "2"}, "network": {"nameservers": ["9.9.9.9"]}}});
        let new = json!({"machine": {"env": {"A": "2", "C": "3"}, "network": {"nameservers": ["9.9.9.9", "1.1.1.1"]}}});
        assert_eq!(
            difference(&old, &new),
            [
                "- machine.env.B: \"2\"",
                "~ machine.env.A: \"1\" -> \"2\"",
                "+ machine.env.C: \"3\"",
                "+ machine.network.nameservers[1]: \"1.1.1.1\"",
            ]
        );
        assert_eq!(difference(&old, &old), [] as [&str; 0]);
    }

    #[test]
    fn a_secret_is_shown_nowhere_whichever_way_it_changes() {
        let config = |ca: Value, header: Value| json!({"machine": {"ca": ca, "kubelet": {"staticPodURLHeader": header}}});
        let none = config(Value::Null, json!({}));
        let first = config(json!({"crt": "a", "key": "hush-1"}), json!({"X": ["hush-2"]}));
        let second = config(json!({"crt": "b", "key": "hush-3"}), json!({"X": ["hush-4"], "Y": ["hush-5"]}));
        let all = [Value::Null, none, first, second];
        for (old, new) in all.iter().flat_map(|old| all.iter().map(move |new| (old, new))) {
            let lines = difference(old, new).join("\n");
            assert!(!lines.contains("hush"), "{lines}");
            assert_eq!(lines.is_empty(), old == new, "that it changes is shown");
        }
        let lines = difference(&all[2], &all[3]);
        assert!(lines.contains(&"~ machine.ca.key: \"(secret)\" -> \"(secret)\"".to_owned()), "{lines:?}");
        assert!(lines.contains(&"~ machine.ca.crt: \"a\" -> \"b\"".to_owned()), "{lines:?}");
    }

    #[test]
    fn pods_and_containers_are_told_apart_by_name_and_not_by_place() {
        let pod = |name: &str, image: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": image}]}});
        let old = json!({"pods": [pod("a", "i:1"), pod("b", "i:1")]});
        let new = json!({"pods": [pod("b", "i:2"), pod("a", "i:1")]});
        assert_eq!(
            difference(&old, &new),
            ["~ pods[default-b].spec.containers[c].image: \"i:1\" -> \"i:2\""]
        );
    }

    #[test]
    fn a_diff_is_bounded_in_lines_and_in_their_length() {
        let many: Vec<usize> = (0..2 * MAX_LINES).collect();
        let lines = difference(&json!({}), &json!({"a": "ä".repeat(9999)}));
        assert!(lines[0].chars().count() < MAX_VALUE + 20, "{lines:?}");
        let lines = difference(&json!([]), &json!(many));
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(lines.last().unwrap(), &format!("… {MAX_LINES} more lines"));
    }
}
