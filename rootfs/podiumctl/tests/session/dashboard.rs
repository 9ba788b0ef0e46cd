//! The dashboard on a terminal, which script(1) makes.

use crate::support::World;
use podium_wire::roles::Role;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For what is drawn within milliseconds on an idle host.
const LIMIT: Duration = Duration::from_secs(60);
/// The alternate screen of a terminal: entered, and left again.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

/// Without it the dashboard ends, too.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended where all went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a terminal was sent until it has all of these.
fn shown_until(output: &mpsc::Receiver<Vec<u8>>, shown: &mut String, parts: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    while !parts.iter().all(|part| shown.contains(part)) {
        let left = deadline.saturating_duration_since(Instant::now());
        let more = output.recv_timeout(left).unwrap_or_else(|_| panic!("{parts:?} in {shown:?}"));
        shown.push_str(&String::from_utf8_lossy(&more));
    }
}

#[test]
fn it_draws_the_node_takes_keys_and_gives_the_terminal_back() {
    let world = World::new(Role::Reader);
    let program = format!("stty rows 40 cols 140; exec {} dashboard", env!("CARGO_BIN_EXE_podiumctl"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &program, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("HOME", world.folder.path())
        .env("TALOSCONFIG", world.path("talosconfig"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of Debian's bsdutils");
    let (sender, output) = mpsc::channel();
    let mut screen = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut buffer) {
            drop(sender.send(buffer[..count].to_vec()));
        }
    });
    let mut keys = child.stdin.take().unwrap();
    let mut child = Terminal(child);
    let mut shown = String::new();
    shown_until(&output, &mut shown, &[ENTERED, "default/nginx-node-1", "READY"]);
    keys.write_all(b"\t").unwrap();
    shown_until(&output, &mut shown, &["kubelet"]);
    assert!(!shown.contains(LEFT), "it has ended by itself: {shown:?}");
    keys.write_all(b"q").unwrap();
    shown_until(&output, &mut shown, &[LEFT]);
    let status = child.0.wait().unwrap();
    assert!(status.success(), "{status}: {shown}");
}
