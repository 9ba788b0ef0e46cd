//! The rules that a pod must keep beyond its types: what a kubelet would refuse later and in silence, and what a
//! node without an API server cannot do.
//!
//! A rule is one function with the signature [`Rule`], listed in the table of its file: a further rule is a function
//! and a line. It reports and never changes anything; rules do not depend on each other or on their order. Rules that
//! need two pods are in `together.rs`.

mod container;
mod pod;
mod volume;

use super::envelope::Pod;
use super::path::{Findings, Path};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Everything a rule may look at.
struct Facts<'a> {
    /// The pod as decoded.
    pod: &'a Pod,
    /// The pod as written: where "was it given at all" matters.
    written: &'a Value,
    /// The names of its volumes.
    volumes: BTreeSet<&'a str>,
}

/// A rule over the part `T` of a pod, which stands at the path.
type Rule<T> = fn(&T, &Facts<'_>, &Path<'_>, &mut Findings<'_>);

/// Applies every rule to one pod.
pub(super) fn check(pod: &Pod, written: &Value, at: &Path<'_>, findings: &mut Findings<'_>) {
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten().map(|volume| volume.name.as_str());
    let facts = Facts { pod, written, volumes: volumes.collect() };
    pod::check(&facts, at, findings);
}

/// Why a reference to an API object is refused.
const NO_API: &str = "a static pod cannot refer to API objects: there is no API server to fetch them from";

/// A word out of a closed set.
fn one_of(value: Option<&String>, legal: &[&str], at: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(value) = value
        && !legal.contains(&value.as_str())
    {
        let near = findings.did_you_mean(value, legal.iter().copied());
        findings.error_with(
            at,
            format!("unknown value {value:?}{near}"),
            format!("use one of {}", legal.join(", ")),
        );
    }
}

/// A name that must have a shape; an empty one counts as missing.
fn shaped(value: &str, is: fn(&str) -> bool, shape: &str, at: &Path<'_>, findings: &mut Findings<'_>) {
    if value.is_empty() {
        findings.error(at, "missing");
    } else if !is(value) {
        findings.error_with(at, format!("{value:?} is not a legal name"), shape);
    }
}

/// A number within bounds.
fn within(value: i64, low: i64, high: i64, at: &Path<'_>, findings: &mut Findings<'_>) {
    if !(low..=high).contains(&value) {
        let wanted =
            if high == i64::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
        findings.error(at, format!("{value} is out of range: it must be {wanted}"));
    }
}

/// The texts at `key` of a list's items, no two of which may be the same; empty ones do not count.
fn unique<'v>(
    values: impl Iterator<Item = &'v str>,
    what: &str,
    list: &Path<'_>,
    key: &str,
    findings: &mut Findings<'_>,
) {
    let mut seen = BTreeMap::new();
    for (index, value) in values.enumerate().filter(|(_, value)| !value.is_empty()) {
        if let Some(other) = seen.insert(value, index) {
            findings
                .error(&list.index(index).key(key), format!("{what} {value:?} is also that of item {other}"));
        }
    }
}
