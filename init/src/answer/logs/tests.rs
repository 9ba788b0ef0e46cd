//! A folder of logs, a client at the other end of a socket.

use super::*;
use podium_init::loglines::rotation;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

fn told(folder: &Path, service: &str, tail: Option<u64>) -> Result<Vec<String>> {
    let (mut client, theirs) = Client::pair();
    answer_from(folder, service, &Wanted { tail, ..Wanted::default() }, &mut client)?;
    drop(client);
    let lines: Vec<serde_json::Value> =
        BufReader::new(theirs).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert_eq!(lines[0]["ok"], true);
    Ok(lines[1..].iter().map(|line| line["line"].as_str().unwrap().to_owned()).collect())
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn lines_come_from_all_files_oldest_first_and_the_last_ones_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.log.2", "1\n2\n");
    write(dir.path(), "a.log.1", "3\n4\n");
    write(dir.path(), "a.log", b"5\n\xff6\n7");
    let all = ["1", "2", "3", "4", "5", "\u{fffd}6", "7"];
    assert_eq!(told(dir.path(), "a", None).unwrap(), all);
    assert_eq!(told(dir.path(), "a", Some(4)).unwrap(), all[3..]);
    assert_eq!(told(dir.path(), "a", Some(0)).unwrap(), all[7..]);
    assert_eq!(told(dir.path(), "a", Some(u64::MAX)).unwrap(), all);
}

#[test]
fn a_service_without_a_log_and_a_path_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("inside")).unwrap();
    let inside = dir.path().join("inside");
    write(&inside, "kubelet.log", "x\n");
    write(dir.path(), "secret.log", "x\n");
    let refused = |name: &str| told(&inside, name, None).unwrap_err().to_string();
    assert_eq!(refused("kublet"), "there is no service \"kublet\"; did you mean \"kubelet\"?");
    assert!(refused("../secret").starts_with("there is no service"));
    assert!(told(&dir.path().join("none"), "kubelet", None).is_err());
}

#[test]
fn a_long_line_comes_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.log", [vec![b'x'; PART_MAX * 2 + 3], b"\ny\n".to_vec()].concat());
    let lines = told(dir.path(), "a", None).unwrap();
    let lengths: Vec<_> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [PART_MAX, PART_MAX, 3, 1]);
}

#[test]
fn the_last_lines_are_counted_from_the_end() {
    for (text, count, expected) in [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\n\n\n", 2, "\n\n"),
        ("a", 1, "a"),
        ("", 1, ""),
        ("\n", 1, "\n"),
        ("a\nb\n", 9, "a\nb\n"),
    ] {
        assert_eq!(last_lines(text.as_bytes(), Some(count)), expected.as_bytes(), "{text:?} {count}");
    }
}

/// A follower whose every step is the test's.
struct World {
    dir: tempfile::TempDir,
    client: Client,
    theirs: UnixStream,
    follower: Follower,
    rest: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let (client, theirs) = Client::pair();
        theirs.set_nonblocking(true).unwrap();
        Self { dir, client, theirs, follower: Follower { path, last: None }, rest: Vec::new() }
    }

    fn append(&self, text: &str) {
        let path = self.dir.path().join("a.log");
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self) {
        for (from, to) in rotation(self.dir.path().join("a.log").to_str().unwrap()) {
            drop(std::fs::rename(from, to));
        }
    }

    fn read(&mut self) -> Vec<String> {
        let mut lines = Lines { client: &mut self.client, rest: std::mem::take(&mut self.rest) };
        self.follower.read_on(&mut lines).unwrap();
        self.rest = lines.rest;
        let mut text = String::new();
        drop(self.theirs.read_to_string(&mut text));
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["line"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_follower_misses_nothing_however_often_files_are_put_aside() {
    let mut world = World::new();
    assert_eq!(world.read(), [""; 0]);
    world.append("1\n2");
    assert_eq!(world.read(), ["1"]);
    world.append("2\n3\n");
    world.rotate();
    assert_eq!(world.read(), ["22", "3"], "between two renames");
    world.append("4\n");
    assert_eq!(world.read(), ["4"]);
    world.append("5\n");
    for n in 6..8 {
        world.rotate();
        world.append(&format!("{n}\n"));
    }
    assert_eq!(world.read(), ["5", "6", "7"]);
    for n in 0..6 {
        world.rotate();
        world.append(&format!("new {n}\n"));
    }
    let lines = world.read();
    assert!(lines[0].contains("lines are missing here"), "{lines:?}");
    assert_eq!(lines[1..], ["new 2", "new 3", "new 4", "new 5"]);
}
