//! Resources of the state service as rows, YAML and JSON; and which type a word means.
//!
//! Definitions come from the node, so that a client knows the types of a newer node. Of everything else only the
//! metadata and `yaml_spec` are read. Nothing here asks a node.

use crate::jsonpath::Template;
use crate::output;
use crate::table::printable_lines;
use crate::times;
use podium_init::config::nearest;
use podium_wire::cosi::{EventType, Metadata, Resource, ResourceDefinitionSpec};
use serde_json::{Map, Value, json};

/// The definition that a word means: a type's whole name, the begin of it, or an alias, in any case.
///
/// # Errors
/// What to do when it means none or several.
pub fn find<'a>(
    definitions: &'a [ResourceDefinitionSpec],
    word: &str,
) -> Result<&'a ResourceDefinitionSpec, String> {
    let wanted = word.to_lowercase();
    let whole = definitions.iter().find(|definition| definition.resource_type.to_lowercase() == wanted);
    if let Some(found) = whole {
        return Ok(found);
    }
    let named = |definition: &&ResourceDefinitionSpec| {
        let names = definition.all_aliases.iter().chain(&definition.aliases);
        names.chain([&definition.display_type]).any(|name| name.to_lowercase() == wanted)
    };
    let found: Vec<&ResourceDefinitionSpec> = definitions.iter().filter(named).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let names = definitions.iter().flat_map(|definition| &definition.all_aliases);
            let near = nearest(&wanted, names.map(String::as_str));
            let near = near.map(|name| format!(", did you mean {name}?")).unwrap_or_default();
            Err(format!("the node has no resource type {word:?}{near} (podiumctl get rd lists them)"))
        }
        several => {
            let types: Vec<&str> =
                several.iter().map(|definition| definition.resource_type.as_str()).collect();
            Err(format!("{word:?} means {}: write one of them out", types.join(" and ")))
        }
    }
}

/// How the resources of one type become rows.
#[derive(Debug)]
pub struct Columns {
    display: String,
    header: Vec<String>,
    templates: Vec<Template>,
    events: bool,
}

impl Columns {
    /// The columns of a type; with `events` one more that tells what came and went.
    ///
    /// # Errors
    /// A column of the node that is not understood.
    pub fn new(definition: &ResourceDefinitionSpec, events: bool) -> Result<Self, String> {
        let mut header = vec!["NODE".to_owned()];
        if events {
            header.push("*".to_owned());
        }
        header.extend(["NAMESPACE", "TYPE", "ID", "VERSION"].map(str::to_owned));
        let mut templates = Vec::new();
        for column in &definition.print_columns {
            header.push(column.name.to_uppercase());
            let template = Template::parse(&column.json_path);
            templates.push(template.map_err(|error| format!("column {}: {error}", column.name))?);
        }
        Ok(Self { display: definition.display_type.clone(), header, templates, events })
    }

    /// Their names.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// One resource as a row.
    pub fn row(&self, node: &str, event: EventType, resource: &Resource) -> Vec<String> {
        let none = Metadata::default();
        let metadata = resource.metadata.as_ref().unwrap_or(&none);
        let mut row = vec![node.to_owned()];
        if self.events {
            row.push(mark(event).to_owned());
        }
        row.extend([
            metadata.namespace.clone(),
            self.display.clone(),
            metadata.id.clone(),
            metadata.version.clone(),
        ]);
        let spec = spec_value(resource);
        row.extend(self.templates.iter().map(|template| template.text(&spec)));
        row
    }
}

/// What stands in the column of events.
fn mark(event: EventType) -> &'static str {
    match event {
        EventType::Created => "+",
        EventType::Destroyed => "-",
        EventType::Updated | EventType::Bootstrapped | EventType::Errored | EventType::Noop => "",
    }
}

/// What happened, in a word.
pub fn word(event: EventType) -> &'static str {
    match event {
        EventType::Created => "created",
        EventType::Updated => "updated",
        EventType::Destroyed => "destroyed",
        EventType::Bootstrapped => "bootstrapped",
        EventType::Errored => "errored",
        EventType::Noop => "noop",
    }
}

/// The spec as data; null when there is none or it is no YAML.
pub fn spec_value(resource: &Resource) -> Value {
    let spec = resource.spec.as_ref().map(|spec| spec.yaml_spec.as_str()).unwrap_or_default();
    serde_yaml::from_str(spec).unwrap_or(Value::Null)
}

/// A document as YAML: the node, what happened (with `-w`), metadata, and the spec as the node wrote it, but for control
/// characters, which YAML has none of.
pub fn yaml(node: &str, event: Option<EventType>, resource: &Resource) -> String {
    let mut text = format!("node: {}\n", scalar(node));
    if let Some(event) = event {
        text.push_str(&format!("event: {}\n", word(event)));
    }
    text.push_str("metadata:\n");
    let value = metadata_value(resource.metadata.as_ref());
    for key in METADATA {
        if let Some(field) = value.get(key) {
            let mut one = Map::new();
            one.insert(key.to_owned(), field.clone());
            text.push_str(&indent(&output::yaml(&Value::Object(one))));
        }
    }
    let spec = resource.spec.as_ref().map(|spec| spec.yaml_spec.as_str()).unwrap_or_default();
    match spec_value(resource) {
        Value::Object(map) if !map.is_empty() => text.push_str(&format!("spec:\n{}", indent(spec))),
        Value::Array(list) if !list.is_empty() => text.push_str(&format!("spec:\n{}", indent(spec))),
        Value::String(text_spec) if text_spec.contains('\n') => {
            text.push_str(&format!("spec: |\n{}", indent(&text_spec)));
        }
        _ => text.push_str(&format!("spec: {}\n", spec.trim())),
    }
    printable_lines(&text)
}

/// The same as JSON.
pub fn json(node: &str, event: Option<EventType>, resource: &Resource) -> Value {
    let mut value = json!({
        "node": node,
        "metadata": metadata_value(resource.metadata.as_ref()),
        "spec": spec_value(resource),
    });
    if let (Some(event), Some(map)) = (event, value.as_object_mut()) {
        map.insert("event".to_owned(), json!(word(event)));
    }
    value
}

/// In the order in which they are shown.
const METADATA: [&str; 11] = [
    "namespace",
    "type",
    "id",
    "version",
    "owner",
    "phase",
    "created",
    "updated",
    "finalizers",
    "labels",
    "annotations",
];

fn metadata_value(metadata: Option<&Metadata>) -> Value {
    let none = Metadata::default();
    let metadata = metadata.unwrap_or(&none);
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("namespace", json!(metadata.namespace));
    put("type", json!(metadata.r#type));
    put("id", json!(metadata.id));
    // Versions are numbers, but for one that is not set yet.
    let version = metadata.version.parse::<u64>().map_or_else(|_| json!(metadata.version), |n| json!(n));
    put("version", version);
    put("owner", json!(metadata.owner));
    put("phase", json!(metadata.phase));
    for (key, stamp) in [("created", &metadata.created), ("updated", &metadata.updated)] {
        if let Some(time) = times::of(stamp.as_ref()) {
            put(key, json!(times::rfc3339(time)));
        }
    }
    if !metadata.finalizers.is_empty() {
        put("finalizers", json!(metadata.finalizers));
    }
    for (key, entries) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        if !entries.is_empty() {
            put(key, json!(entries));
        }
    }
    Value::Object(map)
}

/// A text as a YAML scalar.
fn scalar(text: &str) -> String {
    output::yaml(&json!(text)).trim_end().to_owned()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_wire::cosi::Spec;
    use podium_wire::resources::{DEFINITIONS, Definition};

    fn definitions() -> Vec<ResourceDefinitionSpec> {
        DEFINITIONS.iter().map(Definition::to_spec).collect()
    }

    fn resource(id: &str, yaml_spec: &str) -> Resource {
        let metadata = Metadata {
            namespace: "k8s".into(),
            r#type: "X".into(),
            id: id.into(),
            version: "2".into(),
            phase: "running".into(),
            ..Metadata::default()
        };
        Resource {
            metadata: Some(metadata),
            spec: Some(Spec { yaml_spec: yaml_spec.into(), ..Spec::default() }),
        }
    }

    #[test]
    fn a_spec_does_not_move_the_terminal() {
        for spec in ["a: x\u{1b}[2Jx\n", "\"one\\e[2Jx\\n\\ttwo\"\n", "x\u{1b}[2Jx"] {
            let text = yaml("n", None, &resource("a", spec));
            assert!(text.contains("\\u{1b}[2Jx") && !text.contains('\u{1b}'), "{text:?}");
        }
        let text = yaml("n", None, &resource("a", "\"one\\n\\ttwo\"\n"));
        assert!(text.ends_with("spec: |\n    one\n    \ttwo\n"), "{text:?}");
    }

    #[test]
    fn a_type_is_found_by_every_word_for_it() {
        let all = definitions();
        for word in
            ["staticpods", "StaticPod", "sp", "StaticPods.kubernetes.talos.dev", "staticpods.kubernetes"]
        {
            assert_eq!(find(&all, word).unwrap().display_type, "StaticPod", "{word}");
        }
        let error = find(&all, "staticpodz").unwrap_err();
        assert!(error.contains("did you mean staticpod?"), "{error}");
    }

    #[test]
    fn a_row_has_the_columns_of_its_type() {
        let all = definitions();
        let columns = Columns::new(find(&all, "staticpodstatus").unwrap(), true).unwrap();
        assert_eq!(columns.header(), ["NODE", "*", "NAMESPACE", "TYPE", "ID", "VERSION", "READY"]);
        let one = resource("default/x-n", "conditions:\n  - {type: Ready, status: \"True\"}\n");
        let row = columns.row("n", EventType::Created, &one);
        assert_eq!(row, ["n", "+", "k8s", "StaticPodStatus", "default/x-n", "2", "True"]);
    }

    #[test]
    fn the_yaml_of_a_resource_can_be_read_back() {
        for spec in ["a:\n  - 1\nb: |\n  x\n\n  y\n", "{}", "|\n  version: v1alpha1\n  machine: {}\n", "null"]
        {
            let one = resource("x", spec);
            let text = yaml("10.0.0.2", Some(EventType::Updated), &one);
            let back: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(back, json("10.0.0.2", Some(EventType::Updated), &one), "{text}");
            assert_eq!(back["metadata"]["version"], 2);
        }
    }
}
