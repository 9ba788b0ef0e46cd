//! Columns of a resource's table: JSONPath templates (`{.conditions[?(@.type=="Ready")].status}`) on its YAML.
//!
//! A template is text with expressions in braces, as kubectl's; an expression is handed to a JSONPath library. What a
//! path does not find is empty text, never an error: a young resource has not all of its fields.

use serde_json::Value;
use serde_json_path::JsonPath;

/// A template that was understood.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Path(JsonPath),
}

impl Template {
    /// Reads a template; without braces the whole is one expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(template: &str) -> Result<Self, String> {
        if !template.contains('{') {
            return Ok(Self { parts: vec![path(template)?] });
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').ok_or("a { without its }")? + start;
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            parts.push(path(&rest[start + 1..end])?);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// What it makes of a value; several results have a space between them.
    pub fn text(&self, value: &Value) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Path(path) => {
                let found: Vec<String> = path.query(value).iter().map(|value| plain(value)).collect();
                found.join(" ")
            }
        };
        self.parts.iter().map(part).collect()
    }
}

/// A value as a cell: texts without quotes, the rest as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn path(expression: &str) -> Result<Part, String> {
    let expression = expression.trim();
    // A quoted text is allowed where an expression stands: {"\t"}.
    if let Some(text) = expression.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Ok(Part::Text(text.replace("\\n", "\n").replace("\\t", "\t")));
    }
    let whole = match expression {
        "" => return Err("an empty expression".to_owned()),
        rooted if rooted.starts_with('$') => rooted.to_owned(),
        below if below.starts_with(['.', '[']) => format!("${below}"),
        name => format!("$.{name}"),
    };
    let whole = if whole == "$." { "$".to_owned() } else { whole };
    JsonPath::parse(&whole).map(Part::Path).map_err(|error| format!("{expression}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_wire::resources::DEFINITIONS;
    use serde_json::json;

    fn of(template: &str, value: &Value) -> String {
        Template::parse(template).unwrap().text(value)
    }

    #[test]
    fn the_columns_of_static_pods_are_found() {
        let spec = json!({"conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]});
        assert_eq!(of("{.conditions[?(@.type==\"Ready\")].status}", &spec), "False");
        assert_eq!(of("{.conditions[?(@.type==\"Ready\")].status}", &json!({})), "");
        assert_eq!(of("{.aliases[:]}", &json!({"aliases": ["a", "b"]})), "a b");
        assert_eq!(of("{.running}/{.n}", &json!({"running": true, "n": {"x": 1}})), "true/{\"x\":1}");
    }

    #[test]
    fn every_column_that_a_node_has_is_understood() {
        for (_, path) in DEFINITIONS.iter().flat_map(|definition| definition.columns) {
            Template::parse(path).unwrap();
        }
        for wrong in ["{.a", "{}", "{.a[}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
