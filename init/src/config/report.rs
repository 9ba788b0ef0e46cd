//! Where problems are collected: each gets its place from the tree, and their number is bounded.

use super::node::{Node, Place};
use super::{MAX_PROBLEMS, Problem};

/// The problems of one config, in the order of finding.
#[derive(Debug)]
pub(super) struct Report<'a> {
    root: &'a Node,
    problems: Vec<Problem>,
    /// Paths whose value could not be read at all: rules about what is in it or below it would only repeat that.
    unread: Vec<String>,
    /// Found after [`MAX_PROBLEMS`]; and whether one of them makes the config unusable.
    unlisted: usize,
    unlisted_stops: bool,
}

impl<'a> Report<'a> {
    /// Problems will be looked up in this tree.
    pub(super) fn new(root: &'a Node) -> Self {
        Self { root, problems: Vec::new(), unread: Vec::new(), unlisted: 0, unlisted_stops: false }
    }

    /// Whether further problems are only counted, so that their wording is not worth any work.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() == MAX_PROBLEMS
    }

    /// An error at a path.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) {
        self.push(Problem::error(path, message));
    }

    /// An error at a path, with what to do about it.
    pub(super) fn error_with(&mut self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Problem::error(path, message).remedy(remedy));
    }

    /// An error about a value that could not be read; later errors about it or below it are dropped.
    pub(super) fn unread(&mut self, path: &str, message: impl Into<String>, remedy: Option<&str>) {
        let mut problem = Problem::error(path, message);
        problem.remedy = remedy.map(Into::into);
        self.push(problem);
        self.close(path);
    }

    /// Drops later errors about a path or what is below it.
    pub(super) fn close(&mut self, path: &str) {
        if self.unread.len() < MAX_PROBLEMS {
            self.unread.push(path.to_owned());
        }
    }

    /// Adds any problem; one without a place gets that of its path.
    pub(super) fn push(&mut self, problem: Problem) {
        let covers = |unread: &String| {
            problem
                .path
                .strip_prefix(unread.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if self.unread.iter().any(covers) {
            return;
        }
        if self.is_full() {
            self.unlisted += 1;
            self.unlisted_stops |= problem.stops_config();
            return;
        }
        let problem = match problem.line {
            Some(_) => problem,
            None => {
                let place = self.place(&problem.path);
                problem.at(place)
            }
        };
        self.problems.push(problem);
    }

    /// The place of a path, or the nearest there is.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.root.locate(path)
    }

    /// All problems in the order of the text, one that counts those that were not listed, and whether the config can
    /// be used.
    pub(super) fn finish(mut self) -> (Vec<Problem>, bool) {
        let usable = !self.unlisted_stops && !self.problems.iter().any(Problem::stops_config);
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.unlisted > 0 {
            let message = format!("and {} more problems", self.unlisted);
            let rest =
                if self.unlisted_stops { Problem::error("", message) } else { Problem::warning("", message) };
            self.problems.push(rest);
        }
        (self.problems, usable)
    }
}
