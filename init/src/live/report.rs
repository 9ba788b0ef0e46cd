//! What a change is asked to do, and what it reports: the two things that pass between PID 1 and `init apply`.
//!
//! Both are JSON: the ask is an argument of the child, the report a file below /run/podium that it leaves behind. PID 1
//! reads no more of it than [`REPORT_MAX`] bytes.

use crate::services::Service;
use crate::store::Kept;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest report that PID 1 takes: some twenty services with the largest environment, every byte of it escaped.
pub const REPORT_MAX: usize = 4 << 20;

/// How a config is applied. Talos's words and meanings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// At once, and by a reboot when something needs one.
    #[default]
    Auto,
    /// At once, or not at all when something needs a reboot.
    NoReboot,
    /// At the next boot.
    Staged,
    /// By a reboot that follows at once.
    Reboot,
    /// At once and not stored: the stored config comes back when its time is over.
    Try,
}

impl Mode {
    /// The word that names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::NoReboot => "no-reboot",
            Self::Staged => "staged",
            Self::Reboot => "reboot",
            Self::Try => "try",
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::NoReboot, Self::Staged, Self::Reboot, Self::Try];

    /// The mode of that name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// What one change is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Take the config that a client sends.
    Apply {
        /// How.
        mode: Mode,
        /// Say what would be done and do nothing.
        dry_run: bool,
        /// How long it has to prove itself, or in try mode how long it stays.
        limit: Option<Duration>,
        /// Only on a node that has never had one.
        first: bool,
        /// Who asked, for the log.
        by: String,
    },
    /// Take a watched file that has changed.
    File {
        /// Its path.
        path: String,
    },
    /// Go back to a generation of the history; `None`: to the one before the current one.
    Rollback {
        /// Which.
        generation: Option<u64>,
        /// Who asked, for the log.
        by: String,
    },
    /// The config in force did not prove itself, or its time in try mode is over: back to what was before.
    Revert {
        /// Why, for the log and for the history.
        why: String,
    },
    /// The config in force has proved itself: it is the last known good one from now on.
    Prove,
    /// The config in force is kept though it may never prove itself.
    Keep {
        /// Why.
        kept: Kept,
    },
    /// Make the manifest directory what the config in force says.
    Repair,
}

impl Ask {
    /// A client waits for it.
    pub fn has_client(&self) -> bool {
        match self {
            Self::Apply { .. } | Self::Rollback { .. } => true,
            Self::File { .. } | Self::Revert { .. } | Self::Prove | Self::Keep { .. } | Self::Repair => false,
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// Nothing was changed: refused, a dry run, or nothing to do.
    Nothing {
        /// What is to be said of it, if anything.
        why: Option<String>,
    },
    /// It could not be done, for a reason that is not the config's and may pass.
    Failed {
        /// Which.
        why: String,
    },
    /// A config is in force.
    Applied(Box<Applied>),
    /// A config waits for the next boot; `reboot`: at once, because it needs one.
    Staged {
        /// Its generation.
        generation: u64,
        /// Boot now, for this reason.
        reboot: Option<String>,
    },
    /// The config in force is the last known good one.
    Proved,
    /// That the config in force is kept is stored.
    Kept,
    /// The manifest directory is as it should be.
    Repaired {
        /// But for so many files, each of which was said.
        failed: usize,
        /// See [`Applied::waits`].
        waits: bool,
    },
}

/// Whether a config that is in force stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is the last known good one.
    Good,
    /// It has this long to prove itself; there is another to go back to.
    OnProof(Duration),
    /// As [`Self::OnProof`], but there is nothing to go back to.
    Only,
    /// It goes when its time is over.
    Tried(Duration),
}

/// A config in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its generation; in try mode that of the config which comes back.
    pub generation: u64,
    /// Whether it stays.
    pub standing: Standing,
    /// How many pods it has that can be run.
    pub pods: usize,
    /// How many it has that cannot.
    pub refused: usize,
    /// Files of the manifest directory that could not be made what they should be.
    pub failed: usize,
    /// Manifests are held back, or a mount is, for something that may come by itself: `init wait` looks for it.
    pub waits: bool,
    /// All services of the node under it; `None`: those that there are.
    pub services: Option<Vec<Service>>,
    /// Ids of those whose files changed, so that they are to be started anew even if the service itself is the same.
    pub restart: Vec<String>,
    /// What came with the boot of a config that has gone is so until the next one: boot now, for this reason.
    pub reboot: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_found_by_its_word() {
        for mode in Mode::ALL {
            assert_eq!(Mode::named(mode.word()), Some(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.word());
        }
        assert_eq!(Mode::named("restart"), None);
    }

    #[test]
    fn asks_and_reports_survive_json() {
        let limit = Some(Duration::from_secs(5));
        let asks = [
            Ask::Apply { mode: Mode::Try, dry_run: true, limit, first: true, by: "pid 7".into() },
            Ask::File { path: "/x".into() },
            Ask::Rollback { generation: None, by: String::new() },
            Ask::Revert { why: "w".into() },
            Ask::Prove,
            Ask::Keep { kept: Kept::WithKubelet },
            Ask::Repair,
        ];
        for ask in asks {
            let text = serde_json::to_string(&ask).unwrap();
            assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask, "{text}");
        }
        let applied = Applied {
            generation: 3,
            standing: Standing::OnProof(Duration::from_secs(1)),
            pods: 1,
            refused: 0,
            failed: 2,
            waits: true,
            services: None,
            restart: vec!["kubelet".into()],
            reboot: Some("w".into()),
        };
        for report in [
            Report::Nothing { why: Some("w".into()) },
            Report::Applied(applied.into()),
            Report::Proved,
            Report::Repaired { failed: 1, waits: false },
            Report::Failed { why: "w".into() },
            Report::Kept,
        ] {
            let text = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report, "{text}");
        }
    }
}
