//! A YAML value with its line and column, and the way to one by its path.

use serde_json::Number;

/// Line and column, both from 1.
pub(super) type Place = (usize, usize);

/// A value and where it stands. A map or list has no place of its own: its first item's is the nearest.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The value's own place.
    pub place: Option<Place>,
    /// The value.
    pub kind: Kind,
}

/// A YAML value.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number that JSON can hold.
    Number(Number),
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in its order; a key may be there more than once.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its key, as text.
    pub key: String,
    /// The key's place.
    pub place: Option<Place>,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// Its place, or that of its first item.
    pub(super) fn first_place(&self) -> Option<Place> {
        match &self.kind {
            Kind::List(items) => items.first().and_then(Node::first_place),
            Kind::Map(entries) => entries.first().and_then(|entry| entry.place),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) => self.place,
        }
    }

    /// A map's value by key, the first of that name.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => None,
        }
    }

    /// What it is, for `expected a list, found text`.
    pub(super) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Flag(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The place of a path below this node, e.g. `machine.pods[0].metadata.labels["a.b/c"]`; where the path leads
    /// nowhere, the last place on its way.
    pub(super) fn locate(&self, path: &str) -> Option<Place> {
        let (mut node, mut rest, mut place) = (self, path, None);
        loop {
            let (next, at, after) = match &node.kind {
                Kind::Map(entries) => {
                    let found = entries.iter().find_map(|entry| Some((entry, strip_key(rest, &entry.key)?)));
                    let Some((entry, after)) = found else { return place };
                    (&entry.node, entry.place, after)
                }
                Kind::List(items) => {
                    let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                    let item = index
                        .and_then(|(index, after)| Some((items.get(index.parse::<usize>().ok()?)?, after)));
                    let Some((item, after)) = item else { return place };
                    (item, item.first_place(), after)
                }
                Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) => return place,
            };
            (node, rest, place) = (next, after, at.or(place));
        }
    }
}

/// A path with one more key: `a.b`, or `a["b.c"]` when the key is no plain word.
pub(super) fn join(path: &str, key: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    match is_word(key) {
        true => format!("{path}{dot}{key}"),
        false => format!("{path}[{key:?}]"),
    }
}

/// What follows a key that a path begins with.
fn strip_key<'path>(path: &'path str, key: &str) -> Option<&'path str> {
    if is_word(key) {
        let rest = path.strip_prefix('.').unwrap_or(path).strip_prefix(key)?;
        return (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest);
    }
    path.strip_prefix(&format!("[{key:?}]"))
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
