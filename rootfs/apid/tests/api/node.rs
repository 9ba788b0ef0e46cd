//! A node below a folder of the test's own: its files, PID 1's stand-in, and the real `apid serve` and `apid api`.

use crate::authority::Authority;
use crate::client::{Channel, LIMIT};
use crate::init::{Init, put_config};
use podium_wire::roles::Role;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use tempfile::TempDir;

/// The helper, whose kubelet is away.
const SERVE: [&str; 2] = ["serve", "--kubelet=127.0.0.1:1"];

pub(crate) struct Node {
    root: TempDir,
    pub(crate) ca: Authority,
    pub(crate) init: Init,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    api: Child,
    serve: Child,
}

impl Node {
    /// With a CA of its own.
    pub(crate) fn serving() -> Self {
        Self::with(|ca| in_use("STATE", &json!({"ca": ca.with_key()})))
    }

    /// Without a config.
    pub(crate) fn without_config() -> Self {
        Self::with(|_| waiting(true))
    }

    fn with(config: impl Fn(&Authority) -> Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in [
            "etc/kubernetes/manifests",
            "run/podium/api",
            "run/podium/network",
            "var/log/podium",
            "var/log/pods",
            "proc",
        ] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("run/podium/hostname"), "node-1\n").unwrap();
        for name in ["loadavg", "meminfo", "stat"] {
            std::fs::copy(format!("/proc/{name}"), root.path().join("proc").join(name)).unwrap();
        }
        let ca = Authority::new("one");
        put_config(root.path(), &config(&ca));
        let init = Init::start(root.path());
        let (said, (sender, lines)) = (Arc::default(), mpsc::channel());
        let serve = start(root.path(), &SERVE, &said, sender.clone());
        let api = start(root.path(), &["api", "--listen=127.0.0.1:0"], &said, sender);
        let address = loop {
            let line = lines.recv_timeout(LIMIT).expect("the API listens");
            if let Some(address) = line.strip_prefix("the API listens at ") {
                break address.parse().unwrap();
            }
        };
        Self { root, ca, init, address, said, api, serve }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Another config is in use from now on.
    pub(crate) fn machine(&self, machine: &Value) {
        put_config(self.root(), &in_use("STATE", machine));
    }

    /// That one is in use from now on, or none.
    pub(crate) fn config(&self, config: &Value) {
        put_config(self.root(), config);
    }

    /// The helper that knows of the config ends.
    pub(crate) fn stop_helper(&mut self) {
        self.serve.kill().unwrap();
        self.serve.wait().unwrap();
    }

    /// It comes again.
    pub(crate) fn start_helper(&mut self) {
        self.serve = start(self.root.path(), &SERVE, &self.said, mpsc::channel().0);
    }

    pub(crate) fn helper_pid(&self) -> u32 {
        self.serve.id()
    }

    /// A client with this role.
    pub(crate) async fn client(&self, role: Role) -> Channel {
        let identity = self.ca.client(&[role.organization()]);
        Channel::connect(self.address, &self.ca, Some(identity)).await.unwrap()
    }

    /// All that both programs have said.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn api_pid(&self) -> u32 {
        self.api.id()
    }

    /// Whether the server has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.api.try_wait().unwrap().is_some()
    }
}

/// Starts a program below that folder; what it says is kept, and told.
fn start(root: &Path, args: &[&str], said: &Arc<Mutex<Vec<String>>>, told: mpsc::Sender<String>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apid"));
    command.args(args).arg(format!("--root={}", root.display())).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (said, stderr) = (said.clone(), child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            said.lock().unwrap().push(line.clone());
            // Nobody waits any more.
            drop(told.send(line));
        }
    });
    child
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in [&mut self.api, &mut self.serve] {
            // It may have ended by itself.
            drop(child.kill());
            child.wait().unwrap();
        }
    }
}

/// No config is in use.
pub(crate) fn waiting(fresh: bool) -> Value {
    json!({"source": "", "fresh": fresh, "config": {}})
}

pub(crate) fn in_use(source: &str, machine: &Value) -> Value {
    json!({"source": source, "digest": "", "generation": 1, "config": {"machine": machine}})
}
