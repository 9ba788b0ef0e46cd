//! Selectors of labels and of nodes, which several rules share.

use super::metadata::label_map;
use super::{Findings, Path, exactly_one_of, shaped};
use crate::manifests::names;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector of labels.
pub(super) fn labels(selector: Option<&LabelSelector>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(selector) = selector else { return };
    label_map(selector.match_labels.as_ref(), &at.key("matchLabels"), findings);
    let list = at.key("matchExpressions");
    for (index, each) in selector.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        shaped(&each.key, names::is_label_key, names::LABEL_KEY, &at.key("key"), findings);
        let words = ["In", "NotIn", "Exists", "DoesNotExist"];
        exactly_one_of(Some(&each.operator), &words, &at.key("operator"), findings);
        values(&each.operator, each.values.as_deref(), &at, findings);
    }
}

/// One term of a selector of nodes.
pub(super) fn node_term(term: &NodeSelectorTerm, at: &Path<'_>, findings: &mut Findings<'_>) {
    let list = at.key("matchExpressions");
    for (index, each) in term.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        shaped(&each.key, names::is_label_key, names::LABEL_KEY, &at.key("key"), findings);
        let words = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
        exactly_one_of(Some(&each.operator), &words, &at.key("operator"), findings);
        values(&each.operator, each.values.as_deref(), &at, findings);
    }
    let list = at.key("matchFields");
    for (index, each) in term.match_fields.iter().flatten().enumerate() {
        field(each, &list.index(index), findings);
    }
}

/// Nodes have one field that can be selected by.
fn field(each: &NodeSelectorRequirement, at: &Path<'_>, findings: &mut Findings<'_>) {
    exactly_one_of(Some(&each.operator), &["In", "NotIn"], &at.key("operator"), findings);
    exactly_one_of(Some(&each.key), &["metadata.name"], &at.key("key"), findings);
    if each.values.as_ref().is_none_or(|values| values.len() != 1) {
        findings.error(&at.key("values"), "needs exactly one value");
    }
}

fn values(operator: &str, values: Option<&[String]>, at: &Path<'_>, findings: &mut Findings<'_>) {
    let count = values.map_or(0, <[_]>::len);
    let message = match operator {
        "In" | "NotIn" if count == 0 => "needs at least one value",
        "Exists" | "DoesNotExist" if count > 0 => "takes no values",
        "Gt" | "Lt" if count != 1 => "needs exactly one value",
        _ => return,
    };
    findings.error(&at.key("values"), format!("{operator} {message}"));
}
