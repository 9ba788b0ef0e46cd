//! What can be done to a manifest directory and its kubelet, as data, and where it can be done.

use anyhow::Result;
use std::collections::BTreeMap;

/// Something that is done to the manifest directory, or to the kubelet itself. Names are without folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Written aside under a name with a leading dot, and renamed to this one, over what is there.
    Rename {
        /// Its name.
        file: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Opened, cut to nothing and written.
    Write {
        /// Its name.
        file: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// One name becomes another.
    Move {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// Removed.
    Delete(String),
    /// Its time becomes now.
    Touch(String),
    /// Its mode becomes another, and the owner may still read it.
    Chmod(String),
    /// A FIFO is made.
    Fifo(String),
    /// A link is made to another name, which need not exist.
    Symlink {
        /// The link.
        file: String,
        /// A name in the same directory.
        target: String,
    },
    /// A directory is made inside.
    Subdirectory(String),
    /// The directory is moved away, and another with these files takes its place.
    ReplaceDirectory(BTreeMap<String, Vec<u8>>),
    /// What was moved away is removed with everything in it.
    RemoveReplaced,
    /// The directory is removed with everything in it.
    RemoveDirectory,
    /// The kubelet lists the directory, as it does every 20 s.
    Relist,
    /// The kubelet ends; containers run on.
    StopKubelet,
    /// It starts, and lists the directory.
    StartKubelet,
}

/// Where operations can be carried out: on the model, or on a real node.
pub trait Place {
    /// Carries one out.
    ///
    /// # Errors
    /// It cannot be done here, such as removing what is not there.
    fn apply(&mut self, operation: &Operation) -> Result<()>;
}
