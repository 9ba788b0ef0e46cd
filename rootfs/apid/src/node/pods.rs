//! `static pods`: the pods that there should be, each with its manifest.

use super::output::{self, Fault, Writer};
use crate::changes::{self, Changes, Folder};
use crate::files;
use crate::places::Places;
use anyhow::Result;
use inotify::WatchMask;
use podium_init::manifests::MAX_MANIFEST;
use podium_init::paths;
use podium_init::staticpods::{LIST_MAX, StaticPods};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::sleep;

/// All manifests of one answer: a config has at most a few MiB of text.
const TEXTS_MAX: usize = 8 << 20;
/// Without a word of the kernel's, as files of others change beside the list.
const LOOK: Duration = Duration::from_secs(5);

/// The pods as they are now. None before PID 1 has written a list.
///
/// # Errors
/// The list cannot be read: that is not a node without pods.
pub(super) fn list(places: &Places) -> Result<Value, Fault> {
    let path = places.at(paths::STATIC_PODS);
    let garbled = |error: &dyn std::fmt::Display| Fault::internal(format!("{}: {error}", path.display()));
    let pods = match files::read(&path, LIST_MAX as u64) {
        Ok(bytes) => serde_json::from_slice::<StaticPods>(&bytes).map_err(|error| garbled(&error))?.pods,
        Err(error) if is_missing(&error) => Vec::new(),
        Err(error) => return Err(Fault::internal(format!("{error:#}"))),
    };
    let folder = places.at(paths::MANIFESTS);
    let mut room = TEXTS_MAX;
    let rows = pods.into_iter().map(|mut pod| {
        let text = manifest(&folder, &pod.file, room).unwrap_or_else(|why| {
            pod.problems.push(format!("its manifest is not shown: {why}"));
            None
        });
        room -= text.as_ref().map_or(0, String::len);
        let mut row = json!(pod);
        row["manifest"] = text.into();
        row
    });
    Ok(json!({"ok": true, "pods": rows.collect::<Vec<_>>()}))
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Errno>() == Some(&Errno::NOENT)
}

/// A pod's file has a plain name; its text, unless it has none, or none any more.
///
/// # Errors
/// Why it cannot be told.
fn manifest(folder: &Path, file: &str, room: usize) -> Result<Option<String>, String> {
    if file.is_empty() || file.contains('/') {
        return Ok(None);
    }
    let bytes = match files::read(&folder.join(file), MAX_MANIFEST as u64) {
        Ok(bytes) => bytes,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(format!("{error:#}")),
    };
    if bytes.len() > room {
        return Err(format!(
            "those before it have {} MiB, which is all that is told at once",
            TEXTS_MAX >> 20
        ));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "it is no text".to_owned())
}

/// The whole list now and at each change.
pub(super) async fn watch(
    places: &Places,
    mut changes: Changes,
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: Writer,
) -> Result<()> {
    let mut told = Value::Null;
    loop {
        let now = match list(places) {
            Ok(now) => now,
            // Who watches asks again, and is told why there is nothing until then.
            Err(fault) => return writer.refuse(&fault).await,
        };
        if now != told {
            writer.send(&now).await?;
            told = now;
        }
        tokio::select! {
            () = changes.next() => changes.settle().await,
            () = sleep(LOOK) => {}
            gone = output::gone(&mut reader) => return gone,
        }
    }
}

/// Word of each change of the list or of a manifest.
pub(super) fn changes(places: &Places) -> Changes {
    let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
    let list: Folder = (places.at(paths::RUN), |name| name == "pods.json");
    Changes::of("the static pods", LOOK, mask, &[(places.at(paths::MANIFESTS), changes::all), list])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pods: &str) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        for folder in ["run/podium", "etc/kubernetes/manifests"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("run/podium/pods.json"), pods).unwrap();
        let places = Places::below(Some(root.path()));
        (root, places)
    }

    #[test]
    fn a_list_that_cannot_be_read_is_not_a_node_without_pods() {
        let (root, places) = node(r#"{"pods":["#);
        assert!(list(&places).unwrap_err().text().contains("pods.json"));
        std::fs::remove_file(root.path().join("run/podium/pods.json")).unwrap();
        assert_eq!(list(&places).unwrap()["pods"], json!([]), "nothing is written yet");
    }

    #[test]
    fn a_manifest_that_is_left_out_is_told() {
        let pod = |n: usize| {
            json!({"id": format!("{n:02}"), "namespace": "", "name": "", "uid": "", "version": 1, "origin": "file",
                "file": format!("{n:02}.yaml"), "digest": "", "valid": true, "problems": []})
        };
        let pods: Vec<Value> = (0..12).map(pod).collect();
        let (root, places) = node(&json!({"pods": pods}).to_string());
        let put = |n: usize, bytes: &[u8]| {
            std::fs::write(root.path().join(format!("etc/kubernetes/manifests/{n:02}.yaml")), bytes).unwrap();
        };
        put(0, &vec![b'x'; MAX_MANIFEST + 1]);
        put(1, b"\xff");
        (3..12).for_each(|n| put(n, &vec![b'x'; MAX_MANIFEST]));
        let told = list(&places).unwrap();
        let row =
            |n: usize| (told["pods"][n]["manifest"].is_string(), told["pods"][n]["problems"].to_string());
        let problem = |n: usize, why: &str| !row(n).0 && row(n).1.contains(why);
        assert!(problem(0, "larger than") && problem(1, "no text"), "{:?} {:?}", row(0), row(1));
        assert_eq!(row(2), (false, "[]".to_owned()), "it has none");
        for n in 3..11 {
            assert_eq!(row(n), (true, "[]".to_owned()), "{n}");
        }
        assert!(problem(11, "8 MiB"), "{:?}", row(11));
    }
}
