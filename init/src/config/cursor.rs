//! Typed reading of the tree: a [`Cursor`] is a value with its path, and each way of reading it reports what it is
//! not, and goes on. Which keys a mapping may have stands in `reference.rs` alone.

use super::node::{Entry, Kind, Node, join};
use super::report::Report;
use super::text::Source;
use super::{Problem, did_you_mean, reference, talos};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A value of the tree, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    /// As problems name it: `machine.registries.mirrors["docker.io"].endpoints[0]`.
    pub path: String,
    /// As the reference names it: `machine.registries.mirrors.<name>.endpoints[]`.
    pattern: String,
    node: &'a Node,
    source: &'a Source<'a>,
}

/// A mapping whose keys are all known.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    parent: Cursor<'a>,
    entries: &'a [Entry],
}

impl<'a> Cursor<'a> {
    /// The whole document.
    pub(super) fn root(node: &'a Node, source: &'a Source<'a>) -> Self {
        Self { path: String::new(), pattern: String::new(), node, source }
    }

    /// A mapping of known keys; each other key is reported. `None` when it is no mapping, or nothing.
    pub(super) fn fields(&self, report: &mut Report<'_>) -> Option<Fields<'a>> {
        let entries = self.map(report)?;
        let known: Vec<&str> = reference::keys_below(&self.pattern).collect();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let path = join(&self.path, &entry.key);
            let problem = match talos::remedy(&self.pattern, &entry.key) {
                _ if report.is_full() => Problem::error(path, "unknown key"),
                Some(remedy) => {
                    Problem::error(path, "a key of Talos that Podium does not implement").remedy(remedy)
                }
                None => match did_you_mean(&entry.key, known.iter().copied()) {
                    near if near.is_empty() => Problem::error(path, "unknown key")
                        .remedy(format!("known here: {}", known.join(", "))),
                    near => Problem::error(path, format!("unknown key{near}")),
                },
            };
            report.push(problem.at(entry.place));
        }
        Some(Fields { parent: self.clone(), entries })
    }

    /// The items of a list; empty when it is none.
    pub(super) fn items(&self, report: &mut Report<'_>) -> Vec<Cursor<'a>> {
        match &self.node.kind {
            Kind::List(items) => {
                let item = |(index, node)| Cursor {
                    path: format!("{}[{index}]", self.path),
                    pattern: format!("{}[]", self.pattern),
                    node,
                    source: self.source,
                };
                items.iter().enumerate().map(item).collect()
            }
            Kind::Null => Vec::new(),
            Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::Map(_) => {
                self.expected::<()>("a list", report);
                Vec::new()
            }
        }
    }

    /// The entries of a mapping with names of the user's choice.
    pub(super) fn entries(&self, report: &mut Report<'_>) -> Vec<(String, Cursor<'a>)> {
        let entry = |entry: &'a Entry| {
            let cursor = Cursor {
                path: join(&self.path, &entry.key),
                pattern: format!("{}.<name>", self.pattern),
                node: &entry.node,
                source: self.source,
            };
            (entry.key.clone(), cursor)
        };
        self.map(report).unwrap_or_default().iter().map(entry).collect()
    }

    /// Text; a number, `true` or `false` counts as the text it was written as.
    pub(super) fn text(&self, report: &mut Report<'_>) -> Option<String> {
        match &self.node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Number(_) | Kind::Flag(_) => Some(self.written()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => self.expected("text", report),
        }
    }

    /// `true` or `false`, or one of the words that YAML 1.1 has for them.
    pub(super) fn flag(&self, report: &mut Report<'_>) -> Option<bool> {
        match &self.node.kind {
            Kind::Flag(flag) => Some(*flag),
            Kind::Text(text) => match text.as_str() {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
                "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
                _ => self.expected("true or false", report),
            },
            Kind::Null | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => {
                self.expected("true or false", report)
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(
        &self,
        range: std::ops::RangeInclusive<u32>,
        report: &mut Report<'_>,
    ) -> Option<u32> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        match &self.node.kind {
            Kind::Number(number) => {
                let fits = number.as_u64().and_then(|number| u32::try_from(number).ok());
                let fits = fits.filter(|number| range.contains(number));
                if fits.is_none() {
                    report.unread(&self.path, format!("{} is not {wanted}", self.written()), None);
                }
                fits
            }
            Kind::Null | Kind::Flag(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => {
                self.expected(&wanted, report)
            }
        }
    }

    /// A scalar as it was written, for a value that its type does not tell apart (0644 and 420).
    pub(super) fn written(&self) -> String {
        let word = self.node.place.and_then(|place| self.source.plain_word(place));
        match (&self.node.kind, word) {
            (Kind::Text(text), _) => text.clone(),
            (Kind::Number(_) | Kind::Flag(_), Some(word)) => word.to_owned(),
            (Kind::Number(number), None) => number.to_string(),
            (Kind::Flag(flag), None) => flag.to_string(),
            (Kind::Null | Kind::List(_) | Kind::Map(_), _) => String::new(),
        }
    }

    /// Any value as JSON. Of a key given twice the last counts; that it is there twice is reported elsewhere.
    pub(super) fn json(&self) -> Value {
        json(self.node)
    }

    /// Whether it holds a number (else text, a list, …).
    pub(super) fn as_number(&self) -> Option<u64> {
        match &self.node.kind {
            Kind::Number(number) => number.as_u64(),
            Kind::Null | Kind::Flag(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn map(&self, report: &mut Report<'_>) -> Option<&'a [Entry]> {
        match &self.node.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Null => None,
            Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => {
                self.expected("a mapping", report)
            }
        }
    }

    fn expected<T>(&self, wanted: &str, report: &mut Report<'_>) -> Option<T> {
        report.unread(&self.path, format!("expected {wanted}, found {}", self.node.name()), None);
        None
    }
}

impl<'a> Fields<'a> {
    /// A key's value; `None` when it is absent or nothing.
    pub(super) fn get(&self, key: &str) -> Option<Cursor<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let cursor = Cursor {
            path: join(&self.parent.path, key),
            pattern: join(&self.parent.pattern, key),
            node: &entry.node,
            source: self.parent.source,
        };
        (!matches!(entry.node.kind, Kind::Null)).then_some(cursor)
    }

    /// See [`Cursor::text`].
    pub(super) fn text(&self, key: &str, report: &mut Report<'_>) -> Option<String> {
        self.get(key)?.text(report)
    }

    /// See [`Cursor::flag`].
    pub(super) fn flag(&self, key: &str, report: &mut Report<'_>) -> Option<bool> {
        self.get(key)?.flag(report)
    }

    /// See [`Cursor::items`].
    pub(super) fn items(&self, key: &str, report: &mut Report<'_>) -> Vec<Cursor<'a>> {
        self.get(key).map(|cursor| cursor.items(report)).unwrap_or_default()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, report: &mut Report<'_>) -> Vec<String> {
        // An item that is no text is reported, and stands as empty text so that the others keep their index.
        self.items(key, report).iter().map(|item| item.text(report).unwrap_or_default()).collect()
    }

    /// A mapping of names of the user's choice to texts.
    pub(super) fn text_map(&self, key: &str, report: &mut Report<'_>) -> BTreeMap<String, String> {
        let entries = self.get(key).map(|cursor| cursor.entries(report)).unwrap_or_default();
        entries.into_iter().filter_map(|(name, value)| Some((name, value.text(report)?))).collect()
    }

    /// A mapping of names of the user's choice to lists of texts.
    pub(super) fn texts_map(&self, key: &str, report: &mut Report<'_>) -> BTreeMap<String, Vec<String>> {
        let entries = self.get(key).map(|cursor| cursor.entries(report)).unwrap_or_default();
        let texts = |list: &Cursor<'_>, report: &mut Report<'_>| {
            list.items(report).iter().map(|item| item.text(report).unwrap_or_default()).collect()
        };
        entries.into_iter().map(|(name, list)| (name, texts(&list, report))).collect()
    }

    /// A mapping of any content.
    pub(super) fn json_map(&self, key: &str, report: &mut Report<'_>) -> Map<String, Value> {
        let entries = self.get(key).map(|cursor| cursor.entries(report)).unwrap_or_default();
        entries.into_iter().map(|(name, value)| (name, value.json())).collect()
    }
}

/// Any value as JSON, as [`Cursor::json`].
pub(super) fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Flag(flag) => Value::Bool(*flag),
        Kind::Number(number) => Value::Number(number.clone()),
        Kind::Text(text) => Value::String(text.clone()),
        Kind::List(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect())
        }
    }
}
