//! A node's files below a folder of the test's own, the program run on them, and a client of its socket.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For what happens within milliseconds on an idle host.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// See the file's doc.
pub(crate) struct Node(TempDir);

impl Node {
    /// With its certificates.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/kubernetes/manifests", "run/podium", "var/log/podium", "system/state"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let node = Node(root);
        let made = node.command("pki").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        node
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apid"));
        command.arg(verb).arg(format!("--root={}", self.root().display()));
        command
    }

    fn manifest(&self, file: &str) -> PathBuf {
        self.root().join("etc/kubernetes/manifests").join(file)
    }

    /// Writes a manifest as PID 1 does.
    pub(crate) fn put(&self, file: &str, pod: &Value) {
        let aside = self.manifest(&format!(".{file}.podium-new"));
        std::fs::write(&aside, format!("{pod:#}\n")).unwrap();
        std::fs::rename(aside, self.manifest(file)).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.manifest(file)).unwrap();
    }

    pub(crate) fn remove_directory(&self) {
        std::fs::remove_dir_all(self.manifest("")).unwrap();
    }

    /// Adds to the kubelet's log.
    pub(crate) fn log(&self, text: &str) {
        let path = self.root().join("var/log/podium/kubelet.log");
        let mut log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// `apid serve`, once its socket is there.
    pub(crate) fn serve(&self, kubelet: SocketAddr) -> Apid {
        let apid = Apid(self.command("serve").arg(format!("--kubelet={kubelet}")).spawn().unwrap());
        until("the socket", || UnixStream::connect(self.socket()).is_ok());
        apid
    }

    /// `apid probe`, which tells the socket at `notify`.
    pub(crate) fn probe(&self, notify: &Path) -> Apid {
        Apid(self.command("probe").env("NOTIFY_SOCKET", notify).spawn().unwrap())
    }

    /// `apid podlist` on a port of its choice.
    pub(crate) fn podlist(&self, token: &str) -> (Apid, u16) {
        std::fs::write(self.root().join("run/podium/podlist.token"), token).unwrap();
        let mut command = self.command("podlist");
        let mut child = command.arg("--port=0").stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let apid = Apid(child);
        let mut line = String::new();
        let mut reader = BufReader::new(stderr);
        reader.read_line(&mut line).unwrap();
        // The rest is read as well, so that the program never writes into a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        (apid, port)
    }

    fn socket(&self) -> PathBuf {
        self.root().join("run/podium/apid.sock")
    }
}

/// The program; killed at the end of a test.
pub(crate) struct Apid(Child);

impl Drop for Apid {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What the program says when it refuses its arguments.
pub(crate) fn refused(args: &[&str]) -> String {
    let ended = Command::new(env!("CARGO_BIN_EXE_apid")).args(args).output().unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

/// Asks a question again and again.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::sleep(PAUSE);
    }
}

/// A client of the socket.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn connect(node: &Node) -> Self {
        let stream = UnixStream::connect(node.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Client(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, request: &Value) {
        self.write(&request.to_string());
    }

    /// Writes a line. What the other end does with it shows when it is read.
    pub(crate) fn write(&mut self, line: &str) {
        drop(writeln!(self.0.get_mut(), "{line}"));
    }

    /// The next answer.
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Reads answers until one is as wanted.
    pub(crate) fn until(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = self.line();
            if is_wanted(&line) {
                return line;
            }
            assert!(Instant::now() < deadline, "{what}: last was {line}");
        }
    }

    pub(crate) fn closed(mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
