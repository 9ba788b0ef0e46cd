//! Where the node's files are: the fixed paths of `podium_init::paths`, for tests below another root.

use podium_init::paths;
use std::path::{Path, PathBuf};

/// The paths that apid uses.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    root: PathBuf,
}

impl Places {
    /// Below `root`, else the node's own.
    pub(crate) fn below(root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned() }
    }

    /// An absolute path of the node.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where `apid serve` answers the network API: readers, admins.
    pub(crate) fn node_sockets(&self) -> [PathBuf; 2] {
        [paths::API_NODE_READER, paths::API_NODE_ADMIN].map(|path| self.at(path))
    }

    /// Where PID 1 answers it: anybody in maintenance, readers, operators, admins.
    pub(crate) fn init_sockets(&self) -> [PathBuf; 4] {
        [paths::API_INIT_MAINTENANCE, paths::API_INIT_READER, paths::API_INIT_OPERATOR, paths::API_INIT_ADMIN]
            .map(|path| self.at(path))
    }

    /// The CA's own certificate, to check the kubelet's by.
    pub(crate) fn ca_cert(&self) -> PathBuf {
        self.at(paths::PKI).join("ca.crt")
    }

    /// apid's client certificate and its key.
    pub(crate) fn apid(&self) -> (PathBuf, PathBuf) {
        let folder = self.at(paths::PKI);
        (folder.join("apid.crt"), folder.join("apid.key"))
    }

    /// The kubelet's log as the log writer has it.
    pub(crate) fn kubelet_log(&self) -> PathBuf {
        self.at(paths::LOGS).join("kubelet.log")
    }
}
