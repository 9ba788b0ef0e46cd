//! A process of the node, and when two are the same.

use serde::Deserialize;

/// A process of the node. Two are equal when they are the same one, whatever it did and whoever has adopted it between
/// the looks.
#[derive(Debug, Clone, Eq, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// `comm`, at most 15 characters.
    pub name: String,
    /// One letter; `Z` is a zombie.
    pub state: String,
    /// Clock ticks after boot: with the pid it names one process for ever.
    pub started: u64,
    /// Its arguments, the program first.
    pub argv: Vec<String>,
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}
