//! What the parsing child says of a config: [`Outcome`], and each [`Problem`] with its place.
//!
//! The child prints one `Outcome` as JSON; PID 1 takes that and nothing else of a text that anyone may have written.
//! This file decides how a problem reads; it looks for none itself.

use super::MachineConfig;
use crate::manifests::Manifest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most problems one outcome holds: somebody who asks by a dry run sees each, and the child's output stays small.
/// The console is told a few of them.
pub const MAX_PROBLEMS: usize = 1000;

/// What became of one config text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The checked config without its pods, which are in `manifests`; `None` when the config cannot be used.
    pub config: Option<MachineConfig>,
    /// The pods that can be run, in the config's order.
    pub manifests: Vec<Manifest>,
    /// Ids of the pods that cannot be run, also of those whose problems are only counted below.
    pub refused: Vec<String>,
    /// All that is wrong or doubtful, in the order of the text; at most [`MAX_PROBLEMS`] and one that counts the rest.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// Whether all of it can be used: nothing is wrong with it but what is only doubtful.
    pub fn is_whole(&self) -> bool {
        let is_doubt = |problem: &Problem| problem.severity == Severity::Warning;
        self.config.is_some() && self.refused.is_empty() && self.problems.iter().all(is_doubt)
    }
}

/// Whether the config can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config, or the pod that `Problem::pod` names, is not used.
    Error,
    /// It is used; somebody should look at it.
    Warning,
}

/// One thing that is wrong, its place and its remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What follows from it.
    pub severity: Severity,
    /// YAML path from the document's root, e.g. `machine.pods[0].spec`; empty for the text as a whole.
    pub path: String,
    /// Line in the text, from 1; `None` when it is not known.
    pub line: Option<usize>,
    /// Column in that line in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong, in half a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The static pod's id (`<namespace>-<name>`) when the problem stops that pod alone.
    pub pod: Option<String>,
}

impl Problem {
    /// An error at a YAML path. Place, remedy and pod are added by the methods below.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, path.into(), message.into())
    }

    /// A warning at a YAML path.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, path.into(), message.into())
    }

    /// Adds line and column, both from 1.
    #[must_use]
    pub fn at(mut self, place: Option<(usize, usize)>) -> Self {
        (self.line, self.column) = place.unzip();
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Limits it to one static pod.
    #[must_use]
    pub fn pod(mut self, id: impl Into<String>) -> Self {
        self.pod = Some(id.into());
        self
    }

    /// Whether it makes the whole config unusable: an error that is not one pod's alone.
    pub fn stops_config(&self) -> bool {
        self.severity == Severity::Error && self.pod.is_none()
    }

    fn new(severity: Severity, path: String, message: String) -> Self {
        Self { severity, path, line: None, column: None, message, remedy: None, pod: None }
    }
}

/// One line: `line 3: machine.podz: unknown key, did you mean pods?`; a remedy follows after `; `.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            shown(&self.path, out)?;
            write!(out, ": ")?;
        }
        if self.severity == Severity::Warning {
            write!(out, "warning: ")?;
        }
        shown(&self.message, out)?;
        if let Some(remedy) = &self.remedy {
            write!(out, "; ")?;
            shown(remedy, out)?;
        }
        Ok(())
    }
}

/// Writes a text whose control characters, which it may have from anybody, are escaped: it is for consoles.
fn shown(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in text.split_inclusive(char::is_control) {
        match part.char_indices().next_back() {
            Some((at, last)) if last.is_control() => {
                write!(out, "{}{}", part.get(..at).unwrap_or_default(), last.escape_default())?;
            }
            _ => out.write_str(part)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_one_line() {
        let bare = Problem::error("machine.podz", "unknown key, did you mean pods?").at(Some((3, 5)));
        assert_eq!(bare.to_string(), "line 3: machine.podz: unknown key, did you mean pods?");
        let whole = Problem::error("", "the config is empty").remedy("write one");
        assert_eq!(whole.to_string(), "the config is empty; write one");
        let warning = Problem::warning("machine.files[0].permissions", "644 is decimal").at(Some((9, 1)));
        assert_eq!(warning.to_string(), "line 9: machine.files[0].permissions: warning: 644 is decimal");
    }

    #[test]
    fn nothing_in_a_problem_moves_a_console() {
        let problem = Problem::error("a\u{1b}[2J.b", "x\ny").remedy("\u{7f}ü\r");
        assert_eq!(problem.to_string(), "a\\u{1b}[2J.b: x\\ny; \\u{7f}ü\\r");
    }

    #[test]
    fn a_pods_error_leaves_the_config_usable() {
        assert!(Problem::error("machine", "x").stops_config());
        assert!(!Problem::error("machine.pods[0]", "x").pod("default-x").stops_config());
        assert!(!Problem::warning("machine", "x").stops_config());
    }

    #[test]
    fn an_outcome_survives_json() {
        let outcome = Outcome {
            config: Some(MachineConfig::default()),
            manifests: Vec::new(),
            refused: vec!["default-y".into()],
            problems: vec![Problem::warning("machine", "x").at(Some((1, 2))).remedy("y").pod("default-z")],
        };
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
}
