//! Bytes -> [`Outcome`]: the whole way of a config text, run by the parsing child.
//!
//! text (is it one?) -> tree (is it YAML?) -> which document -> keys given twice -> decode -> validate -> pods.
//! A step that leaves nothing to go on with ends it; everything else is collected, so that a person sees all that
//! is wrong at once. Nothing here has an effect, and no input makes it panic.
//!
//! Places are for problems: a text is read without most of them, and once more with all when there is a problem.

use super::cursor::{Cursor, json};
use super::node::{Kind, Node, join};
use super::report::Report;
use super::text::{self, Source};
use super::tree::{self, Places};
use super::{Outcome, Problem, decode, validate};
use crate::manifests::{self, Uids};
use std::collections::BTreeSet;

/// Checks a config's text (undone of base64 and compression).
pub fn parse(bytes: &[u8]) -> Outcome {
    let outcome = parse_with(bytes, Places::Few);
    if outcome.problems.is_empty() {
        return outcome;
    }
    // The memory is for one at a time.
    drop(outcome);
    parse_with(bytes, Places::All)
}

fn parse_with(bytes: &[u8], places: Places) -> Outcome {
    let stopped = |problem: Box<Problem>| Outcome { problems: vec![*problem], ..Outcome::default() };
    let text = match text::text(bytes) {
        Ok(text) => text,
        Err(problem) => return stopped(problem),
    };
    let source = Source::new(text);
    let documents = match tree::documents(text, &source, places) {
        Ok(documents) => documents,
        Err(problem) => return stopped(problem),
    };
    match choose(&documents) {
        Ok((document, others)) => check(document, &source, others),
        Err(problem) => stopped(problem),
    }
}

/// The first document of a text that holds a pod, as JSON; the error is what is wrong with the text.
///
/// For a text that has no child of its own to be read by: what it takes is bounded, aliases written out.
pub(crate) fn pod(bytes: &[u8]) -> Result<serde_json::Value, Box<Problem>> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::error("", "no pod in YAML or JSON: not UTF-8"))?;
    tree::first(text, &Source::new(text)).map(|node| json(&node))
}

/// Finds the config among a text's documents; the others are problems.
fn choose(documents: &[Node]) -> Result<(&Node, Vec<Problem>), Box<Problem>> {
    let mut chosen: Option<&Node> = None;
    let mut others = Vec::new();
    for document in documents.iter().filter(|document| !matches!(document.kind, Kind::Null)) {
        let place = document.first_place();
        match (text_of(document, "kind"), chosen) {
            (Some(kind @ ("Pod" | "KubeStaticPodConfig")), _) => others.push(
                Problem::error("", format!("a document of kind {kind} where a machine config belongs"))
                    .at(place)
                    .remedy("write version: v1alpha1, and the pod below machine.pods"),
            ),
            (Some(kind), _) => others.push(
                Problem::error("", format!("a document of kind {kind}"))
                    .at(place)
                    .remedy("Podium takes one document, the one with version: v1alpha1; remove the others"),
            ),
            (None, None) => chosen = Some(document),
            (None, Some(_)) => {
                others.push(Problem::error("", "a second config").at(place).remedy("keep one of them"));
            }
        }
    }
    match chosen {
        Some(document) if !matches!(document.kind, Kind::Map(_)) => {
            let message = format!("no machine config: expected a mapping, found {}", document.name());
            Err(Problem::error("", message).remedy("write version: v1alpha1, and machine:").into())
        }
        Some(document) => Ok((document, others)),
        None if others.is_empty() => {
            let empty = Problem::error("", "the config is empty");
            Err(empty.remedy("the smallest is: version: v1alpha1, machine: {}").into())
        }
        None => Err(others.swap_remove(0).into()),
    }
}

fn check(document: &Node, source: &Source<'_>, others: Vec<Problem>) -> Outcome {
    let mut report = Report::new(document);
    others.into_iter().for_each(|problem| report.push(problem));
    let mut spoilt = Vec::new();
    for problem in repeated(document) {
        let pod = pod_index(&problem.path).map(|index| pod_id(document, index));
        spoilt.extend(pod.clone());
        let is_merge = problem.path.ends_with("[\"<<\"]").then(|| problem.path.clone());
        report.push(Problem { pod, ..problem });
        is_merge.iter().for_each(|path| report.close(path));
    }
    let mut config = decode::config(&Cursor::root(document, source), &mut report);
    let pods = std::mem::take(&mut config.machine.pods);
    validate::machine(&config.machine, &mut report);
    let uids = if config.machine.kubelet.stable_pod_uid { Uids::Stable } else { Uids::OfEverything };
    let (mut manifests, problems) = manifests::plan_with(&pods, uids, &|path| document.locate(path));
    manifests.retain(|manifest| !spoilt.contains(&manifest.id));
    problems.into_iter().for_each(|problem| report.push(problem));
    // Not by their problems: of those only the first are listed.
    let made: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.id.as_str()).collect();
    let ids = (0..pods.len()).map(|index| pod_id(document, index));
    let refused = ids.filter(|id| !made.contains(id.as_str())).collect();
    match report.finish() {
        (problems, true) => Outcome { config: Some(config), manifests, refused, problems },
        (problems, false) => Outcome { problems, ..Outcome::default() },
    }
}

/// A problem for each key that is given twice and each `<<`, anywhere in the document.
fn repeated(document: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut open = vec![(String::new(), document)];
    while let Some((path, node)) = open.pop() {
        match &node.kind {
            Kind::Map(entries) => {
                let mut first = std::collections::HashMap::new();
                for entry in entries {
                    let path = join(&path, &entry.key);
                    if let Some(line) = first.insert(entry.key.as_str(), entry.place.map(|(line, _)| line)) {
                        let line =
                            line.map(|line| format!("; the other is on line {line}")).unwrap_or_default();
                        let message = format!("is given twice{line}");
                        problems
                            .push(Problem::error(&path, message).at(entry.place).remedy("keep one of them"));
                    }
                    if entry.key == "<<" {
                        let problem = Problem::error(&path, "merge keys are not supported").at(entry.place);
                        problems.push(problem.remedy("write the keys out"));
                        continue;
                    }
                    open.push((path, &entry.node));
                }
            }
            Kind::List(items) => {
                open.extend(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)));
            }
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) => {}
        }
    }
    problems
}

fn pod_index(path: &str) -> Option<usize> {
    path.strip_prefix("machine.pods[")?.split_once(']')?.0.parse().ok()
}

/// The id of a pod as `manifests.rs` gives it.
fn pod_id(document: &Node, index: usize) -> String {
    let pods = document.get("machine").and_then(|machine| machine.get("pods"));
    let metadata = match pods.map(|pods| &pods.kind) {
        Some(Kind::List(items)) => items.get(index).and_then(|pod| pod.get("metadata")),
        _ => None,
    };
    let text =
        |key: &str| metadata.and_then(|metadata| text_of(metadata, key)).filter(|text| !text.is_empty());
    match text("name") {
        Some(name) => format!("{}-{name}", text("namespace").unwrap_or("default")),
        None => format!("pods[{index}]"),
    }
}

fn text_of<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match &node.get(key)?.kind {
        Kind::Text(text) => Some(text),
        Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => None,
    }
}
