//! A node that is none: the API's services in this process with fixed answers, over real TLS; and the real binary run
//! against it.

mod fake;
mod fixed;
mod service;

pub(crate) use fake::Fake;
pub(crate) use service::After;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with a talosconfig, and nodes that it knows.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) nodes: Vec<Fake>,
}

/// What the binary said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// One node with this role for the client.
    pub(crate) fn new(role: podium_wire::roles::Role) -> Self {
        Self::with(role, 1)
    }

    /// Several nodes of the same CA.
    pub(crate) fn with(role: podium_wire::roles::Role, count: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let ca = fake::new_ca();
        let nodes: Vec<Fake> = (0..count).map(|_| Fake::start(Some(&ca))).collect();
        let endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        std::fs::write(folder.path().join("talosconfig"), fake::talosconfig(&ca, role, &endpoints)).unwrap();
        Self { folder, nodes }
    }

    /// What becomes of the first node once it is told to end.
    pub(crate) fn goes(&self, after: After) {
        self.nodes[0].seen.lock().unwrap().after = after;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Runs podiumctl in the folder; its words are separated by spaces, `'` keeps some together.
    pub(crate) fn run(&self, words: &str) -> Said {
        self.run_with(words, &[])
    }

    /// With further environment.
    pub(crate) fn run_with(&self, words: &str, environment: &[(&str, &str)]) -> Said {
        let output = command(self.folder.path())
            .args(split(words))
            .env("TALOSCONFIG", self.path("talosconfig"))
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        self.said(&output)
    }

    /// Ports and the folder, which differ from run to run, by their names.
    fn said(&self, output: &Output) -> Said {
        let plain = |bytes: &[u8]| {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for (number, node) in self.nodes.iter().enumerate() {
                let port = node.address.rsplit(':').next().unwrap();
                text = text.replace(port, &format!("NODE{number}")[..5.min(port.len())]);
            }
            let folder = self.folder.path().display().to_string();
            let mut text = text.replace(&folder, "FOLDER");
            for seconds in 1..30 {
                text = text.replace(&format!("1h0m{seconds}s"), "1h0m0s");
            }
            text
        };
        Said {
            code: output.status.code().unwrap_or(-1),
            out: plain(&output.stdout),
            err: plain(&output.stderr),
        }
    }
}

/// podiumctl with an environment of its own.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podiumctl"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .stdin(Stdio::null());
    command
}

fn split(words: &str) -> Vec<String> {
    let mut list = Vec::new();
    for (number, part) in words.split('\'').enumerate() {
        if number % 2 == 1 {
            list.push(part.to_owned());
        } else {
            list.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    list
}

/// Compares with a file of tests/golden; UPDATE_GOLDEN=1 writes it instead.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{} differs; UPDATE_GOLDEN=1 writes it anew", path.display());
}
