//! Static pods: those that there should be, from PID 1's side, and what the kubelet says of them.

use crate::job::Client;
use crate::sys::poll::{self, For};
use crate::sys::{At, clock, file};
use anyhow::{Context, Result, bail};
use podium_init::control::{self, Refusal};
use podium_init::manifests::is_ours;
use podium_init::paths;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The list of all pods: a thousand with some problems each.
const LIST_MAX: usize = 8 << 20;
/// One state of all pods: a thousand with ten containers each.
const STATUS_MAX: usize = 16 << 20;
/// Until then the first state is there: the helper asks the kubelet, which may be asked by others, too.
const STATUS_LIMIT: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 << 10;

/// The answer to `pods`.
pub(super) fn list() -> Result<Value> {
    let path = Path::new(paths::STATIC_PODS);
    let pods = match path.exists() {
        true => {
            let list: Value =
                serde_json::from_slice(&file::read(path, LIST_MAX)?).context(paths::STATIC_PODS)?;
            list.get("pods").cloned().unwrap_or_default()
        }
        // Before the first list was written.
        false => of_folder(Path::new(paths::MANIFESTS)),
    };
    Ok(json!({"ok": true, "pods": pods}))
}

/// What the names of manifests tell.
fn of_folder(folder: &Path) -> Value {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let pods = names.iter().map(|name| match is_ours(name) {
        true => {
            let id = name.trim_start_matches("podium-").trim_end_matches(".yaml");
            json!({"id": id, "origin": "config", "file": name, "valid": true})
        }
        false => json!({"origin": "file", "file": name}),
    });
    pods.collect()
}

/// The answer to `pod status`: each state as a line, as the helper tells it.
pub(super) fn status(watch: bool, client: &mut Client) -> Result<()> {
    let helper = connect(Path::new(paths::POD_STATUS_SOCKET), watch)?;
    relay(helper, watch, client)
}

fn connect(path: &Path, watch: bool) -> Result<UnixStream> {
    let mut helper = match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let remedy = "`services` tells how apid is; `pods` works without it";
            return Err(Refusal::new("apid, which asks the kubelet, is not there", remedy).into());
        }
        helper => helper.at("connect to", path)?,
    };
    let request = if watch {
        json!({"request": "pod status", "watch": true})
    } else {
        json!({"request": "pod status"})
    };
    helper.set_write_timeout(Some(STATUS_LIMIT)).at("set a limit for", path)?;
    helper.write_all(format!("{request}\n").as_bytes()).at("write to", path)?;
    helper.set_nonblocking(true).at("set nonblocking", path)?;
    Ok(helper)
}

/// Whole lines only: a part of one would be damaged JSON.
fn relay(mut helper: UnixStream, watch: bool, client: &mut Client) -> Result<()> {
    let until = clock::now() + STATUS_LIMIT;
    let mut line = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let left = (!client.has_begun()).then(|| until.saturating_sub(clock::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let remedy = "`logs` of apid and of the kubelet may tell why";
            return Err(Refusal::new("apid does not answer", remedy).into());
        }
        let ready = poll::wait(&[(client.as_fd(), For::End), (helper.as_fd(), For::Reading)], left)?;
        if ready.first() == Some(&true) {
            return Ok(());
        }
        match helper.read(&mut chunk) {
            Ok(0) if client.has_begun() => return Ok(()),
            Ok(0) => bail!("apid has closed the connection without an answer"),
            Ok(length) => line.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read from apid"),
        }
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1);
            let text = String::from_utf8_lossy(&line).into_owned();
            line = rest;
            if !client.has_begun() {
                client.send_line(&control::ok())?;
            }
            client.send_line(&text)?;
            if !watch {
                return Ok(());
            }
        }
        if line.len() > STATUS_MAX {
            bail!("apid has said more than {} MiB without a line feed", STATUS_MAX >> 20);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn rest(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn manifests_are_listed_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["podium-default-web.yaml", "theirs.json", ".podium-x.yaml.podium-new"] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        let expected = json!([
            {"id": "default-web", "origin": "config", "file": "podium-default-web.yaml", "valid": true},
            {"origin": "file", "file": "theirs.json"},
        ]);
        assert_eq!(of_folder(dir.path()), expected);
        assert_eq!(of_folder(&dir.path().join("none")), json!([]));
    }

    #[test]
    fn a_helper_that_is_not_there_is_said_so_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let error = connect(&path, false).unwrap_err().to_string();
        assert!(error.starts_with("apid, which asks the kubelet, is not there; "), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        assert!(connect(&path, false).unwrap_err().is::<Refusal>());
    }

    #[test]
    fn one_state_is_told_or_each_whole_one_until_the_end() {
        for (watch, expected) in
            [(false, "{\"ok\":true}\n{\"pods\":[]}\n"), (true, "{\"ok\":true}\n{\"pods\":[]}\n{}\n")]
        {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
            let helper = connect(&dir.path().join("socket"), watch).unwrap();
            let (mut theirs, _) = listener.accept().unwrap();
            theirs.write_all(b"{\"pods\":[]}\n{}\n{\"cut").unwrap();
            let mut request = [0; 64];
            let length = theirs.read(&mut request).unwrap();
            assert_eq!(request[..length].ends_with(b"\"watch\":true}\n"), watch);
            drop(theirs);
            let (mut client, end) = Client::pair();
            relay(helper, watch, &mut client).unwrap();
            drop(client);
            assert_eq!(rest(end), expected);
        }
    }

    #[test]
    fn a_client_that_is_gone_ends_it() {
        let (helper, _theirs) = UnixStream::pair().unwrap();
        helper.set_nonblocking(true).unwrap();
        let (mut client, end) = Client::pair();
        drop(end);
        relay(helper, true, &mut client).unwrap();
    }
}
