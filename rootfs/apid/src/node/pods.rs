//! `static pods`: the pods that there should be, each with its manifest.

use super::output::{self, Writer};
use crate::files;
use crate::places::Places;
use crate::say;
use anyhow::Result;
use inotify::{Inotify, WatchMask};
use podium_init::manifests::MAX_MANIFEST;
use podium_init::paths;
use podium_init::staticpods::StaticPods;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// `pods.json` of a config with a thousand pods has some hundred KiB.
const PODS_MAX: u64 = 16 << 20;
/// All manifests of one answer: a config has at most a few MiB of text.
const TEXTS_MAX: usize = 8 << 20;
/// Without a word of the kernel's, as files of others change beside the list.
const LOOK: Duration = Duration::from_secs(5);
/// A change writes several files.
const SETTLE: Duration = Duration::from_millis(20);

/// The pods as they are now.
pub(super) fn list(places: &Places) -> Value {
    let bytes = files::read(&places.at(paths::STATIC_PODS), PODS_MAX).unwrap_or_default();
    let pods = serde_json::from_slice::<StaticPods>(&bytes).unwrap_or_default().pods;
    let folder = places.at(paths::MANIFESTS);
    let mut room = TEXTS_MAX;
    let rows = pods.into_iter().map(|pod| {
        let text = manifest(&folder, &pod.file).filter(|text| text.len() <= room);
        room -= text.as_ref().map_or(0, String::len);
        let mut row = json!(pod);
        if let Some(row) = row.as_object_mut() {
            row.insert("manifest".to_owned(), text.into());
        }
        row
    });
    json!({"ok": true, "pods": rows.collect::<Vec<_>>()})
}

/// A pod's file has a plain name; its text, if it is one.
fn manifest(folder: &Path, file: &str) -> Option<String> {
    if file.is_empty() || file.contains('/') {
        return None;
    }
    let limit = u64::try_from(MAX_MANIFEST).ok()?;
    String::from_utf8(files::read(&folder.join(file), limit).ok()?).ok()
}

/// The whole list now and at each change.
pub(super) async fn watch(
    places: &Places,
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: Writer,
) -> Result<()> {
    let mut woken = wake(places);
    let mut told = Value::Null;
    loop {
        let now = list(places);
        if now != told {
            writer.send(&now).await?;
            told = now;
        }
        tokio::select! {
            Some(()) = woken.recv() => {
                sleep(SETTLE).await;
                while woken.try_recv().is_ok() {}
            }
            () = sleep(LOOK) => {}
            gone = output::gone(&mut reader) => return gone,
        }
    }
}

/// A word at each change of the list or of a manifest.
fn wake(places: &Places) -> mpsc::Receiver<()> {
    let (wake, woken) = mpsc::channel(1);
    let watching = Inotify::init().and_then(|mut inotify| {
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
        let manifests = inotify.watches().add(places.at(paths::MANIFESTS), mask)?;
        inotify.watches().add(places.at(paths::RUN), mask)?;
        std::thread::Builder::new().name("inotify".to_owned()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(mut events) = inotify.read_events_blocking(&mut buffer) {
                let is_ours =
                    events.any(|event| event.wd == manifests || event.name == Some(OsStr::new("pods.json")));
                if is_ours && let Err(mpsc::error::TrySendError::Closed(())) = wake.try_send(()) {
                    return;
                }
            }
        })
    });
    if let Err(error) = watching {
        say::line(&format!("watch the static pods: {error}; changes are seen {} s late", LOOK.as_secs()));
    }
    woken
}
