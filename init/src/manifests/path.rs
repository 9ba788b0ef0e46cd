//! YAML paths, and the findings of one pod.
//!
//! A [`Path`] is a chain of borrowed steps on the stack: walking a pod costs no allocation, and text is made of a
//! path only where something is wrong. [`Findings`] bounds what one pod may report.

use crate::config::{Problem, did_you_mean};
use std::collections::BTreeSet;
use std::fmt;

/// Where a value stands, e.g. `machine.pods[0].spec`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The path of one key.
    pub(super) const fn root(key: &'a str) -> Self {
        Path { parent: None, step: Step::Key(key) }
    }

    /// One key deeper.
    pub(super) const fn key(&'a self, key: &'a str) -> Self {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// One list item deeper.
    pub(super) const fn index(&'a self, index: usize) -> Self {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// RFC 6901 pointer from below `pods[<n>]`, which is two steps below the root, to this value.
    pub(super) fn pointer(&self) -> String {
        match self.parent {
            Some(parent) if parent.parent.is_some_and(|above| above.parent.is_some()) => {
                let mut text = parent.pointer();
                match self.step {
                    Step::Key(key) => {
                        text.push('/');
                        text.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    }
                    Step::Index(index) => text.push_str(&format!("/{index}")),
                }
                text
            }
            _ => String::new(),
        }
    }
}

/// `machine.pods[0].metadata.labels["app.kubernetes.io/name"]`: a key that is no plain word is quoted.
impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(out, "{parent}")?;
        }
        let dot = if self.parent.is_some() { "." } else { "" };
        match self.step {
            Step::Index(index) => write!(out, "[{index}]"),
            Step::Key(key) if is_word(key) => write!(out, "{dot}{key}"),
            Step::Key(key) => write!(out, "[{key:?}]"),
        }
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What is wrong with one pod, in the order of finding.
pub(super) struct Findings<'a> {
    locate: &'a dyn Fn(&str) -> Option<(usize, usize)>,
    pod: String,
    problems: Vec<Problem>,
    unlisted: usize,
    refused: bool,
    rule: &'static str,
    breached: BTreeSet<&'static str>,
}

impl<'a> Findings<'a> {
    /// One pod may be wrong everywhere; it must not crowd out what is to be said about the others.
    const MOST: usize = 20;

    /// Nothing found yet. `pod` is the static pod ID, or what stands for it when there is none.
    pub(super) fn new(pod: &str, locate: &'a dyn Fn(&str) -> Option<(usize, usize)>) -> Self {
        Findings {
            locate,
            pod: pod.to_owned(),
            problems: Vec::new(),
            unlisted: 0,
            refused: false,
            rule: "",
            breached: BTreeSet::new(),
        }
    }

    /// What is found from now on is against this rule.
    pub(super) fn enter(&mut self, rule: &'static str) {
        self.rule = rule;
    }

    /// The names of the rules that were not kept.
    pub(super) fn breached(&self) -> &BTreeSet<&'static str> {
        &self.breached
    }

    /// The pod cannot be run.
    pub(super) fn error(&mut self, at: &Path<'_>, message: impl Into<String>) {
        self.refused = true;
        self.add(at, |path| Problem::error(path, message));
    }

    /// The pod cannot be run, and this is what to do about it.
    pub(super) fn error_with(
        &mut self,
        at: &Path<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.refused = true;
        self.add(at, |path| Problem::error(path, message).remedy(remedy));
    }

    /// The pod runs; somebody should look at it.
    pub(super) fn warning(&mut self, at: &Path<'_>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(at, |path| Problem::warning(path, message).remedy(remedy));
    }

    /// `, did you mean pods?`, or nothing; also nothing when the problem will not be listed anyway, since comparing
    /// is what costs most in a pod that is wrong everywhere.
    pub(super) fn did_you_mean<'n>(&self, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
        if self.problems.len() < Self::MOST { did_you_mean(name, known) } else { String::new() }
    }

    /// Whether an error was found.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    /// Hands the problems over; those that were too many are counted in a last one, at the pod's own path.
    pub(super) fn finish(mut self, pod: &Path<'_>, problems: &mut Vec<Problem>) {
        if self.unlisted > 0 {
            let path = pod.to_string();
            let place = (self.locate)(&path);
            let message = format!("{} more problems in this pod", self.unlisted);
            let severity = if self.refused { Problem::error } else { Problem::warning };
            self.problems.push(severity(path, message).at(place).pod(self.pod));
        }
        problems.append(&mut self.problems);
    }

    fn add(&mut self, at: &Path<'_>, problem: impl FnOnce(String) -> Problem) {
        self.breached.insert(self.rule);
        if self.problems.len() >= Self::MOST {
            self.unlisted += 1;
            return;
        }
        let path = at.to_string();
        let place = (self.locate)(&path);
        self.problems.push(problem(path).at(place).pod(self.pod.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_yaml_and_points_as_json() {
        let (machine, labels) = (Path::root("machine"), "labels");
        let pods = machine.key("pods");
        let pod = pods.index(7);
        assert_eq!((pod.to_string().as_str(), pod.pointer().as_str()), ("machine.pods[7]", ""));
        let metadata = pod.key("metadata");
        let labels = metadata.key(labels);
        let label = labels.key("a/b~c");
        assert_eq!(label.to_string(), r#"machine.pods[7].metadata.labels["a/b~c"]"#);
        assert_eq!(label.pointer(), "/metadata/labels/a~1b~0c");
        assert_eq!(metadata.index(2).pointer(), "/metadata/2");
    }

    #[test]
    fn a_pod_that_is_wrong_everywhere_is_bounded() {
        let pod = Path::root("pod");
        let mut findings = Findings::new("default-a", &|_| Some((3, 1)));
        for _ in 0..1000 {
            findings.error(&pod, "wrong");
        }
        let mut problems = Vec::new();
        findings.finish(&pod, &mut problems);
        assert_eq!(problems.len(), Findings::MOST + 1);
        assert_eq!(
            problems.last().map(ToString::to_string).as_deref(),
            Some("line 3: pod: 980 more problems in this pod")
        );
        assert!(problems.iter().all(|problem| problem.pod.as_deref() == Some("default-a")));
    }
}
