//! How an answer is shown: as a table for people, as YAML or as JSON for programs. It decides the text and prints
//! nothing.
//!
//! JSON is one object after another, as `jq` reads it; YAML is one document after another. Both have the same fields.

use crate::table::Table;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// Documents, `---` between them.
    Yaml,
    /// Objects, one after another.
    Json,
}

/// Rows and the same as data.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Names of the columns.
    pub header: Vec<&'static str>,
    /// What a table shows.
    pub rows: Vec<Vec<String>>,
    /// What YAML and JSON show, an object a row.
    pub items: Vec<Value>,
    /// Spaces between columns; 0: as usual.
    pub gap: usize,
}

impl Listing {
    /// An empty list with these columns.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), ..Self::default() }
    }

    /// Adds one row and the same as data.
    pub fn push(&mut self, row: Vec<String>, item: Value) {
        self.rows.push(row);
        self.items.push(item);
    }

    /// The whole list as text.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => {
                let table = Table::new(&self.header);
                let mut table = if self.gap == 0 { table } else { table.gap(self.gap) };
                table.render(&self.rows)
            }
            Format::Yaml => {
                let documents: Vec<String> = self.items.iter().map(yaml).collect();
                documents.join("---\n")
            }
            Format::Json => self.items.iter().map(json).collect(),
        }
    }
}

/// One value as indented JSON with a line feed behind.
pub fn json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let written = serde::Serialize::serialize(value, &mut Serializer::with_formatter(&mut bytes, formatter));
    let mut text = match written {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => value.to_string(),
    };
    text.push('\n');
    // Those that JSON lets stand as they are, and terminals obey: they are in texts alone.
    if text.contains(is_late_control) {
        text = text.chars().fold(String::with_capacity(text.len()), |mut text, character| {
            match is_late_control(character) {
                true => text.push_str(&format!("\\u{:04x}", u32::from(character))),
                false => text.push(character),
            }
            text
        });
    }
    text
}

/// DEL and C1 of Unicode.
fn is_late_control(character: char) -> bool {
    matches!(character, '\u{7f}'..='\u{9f}')
}

/// One value as a YAML document with a line feed behind.
pub fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_else(|_| json(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_the_same_rows_in_every_form() {
        let mut listing = Listing::new(&["NODE", "ID"]);
        listing.push(vec!["n".into(), "a".into()], json!({"node": "n", "id": "a"}));
        listing.push(vec!["n".into(), "b".into()], json!({"node": "n", "id": "b"}));
        assert_eq!(listing.render(Format::Table), "NODE   ID\nn      a\nn      b\n");
        assert_eq!(listing.render(Format::Yaml), "id: a\nnode: n\n---\nid: b\nnode: n\n");
        let read: Vec<Value> = serde_json::Deserializer::from_str(&listing.render(Format::Json))
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(read, listing.items);
    }

    #[test]
    fn no_form_has_control_characters_and_all_have_the_text() {
        let value = json!({"id": "a\u{1b}[2J\u{7f}\u{9b}2Jä"});
        for text in [json(&value), yaml(&value)] {
            assert!(
                !text.contains(|character: char| character.is_control() && character != '\n'),
                "{text:?}"
            );
            assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value, "{text}");
        }
    }
}
