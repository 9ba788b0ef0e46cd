//! `static pods`: the pods that there should be, each with its manifest.

use super::output::{self, Writer};
use crate::changes::{self, Changes, Folder};
use crate::files;
use crate::places::Places;
use anyhow::Result;
use inotify::WatchMask;
use podium_init::manifests::MAX_MANIFEST;
use podium_init::paths;
use podium_init::staticpods::StaticPods;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::unix::OwnedReadHalf;
use tokio::time::sleep;

/// `pods.json` of a config with a thousand pods has some hundred KiB.
const PODS_MAX: u64 = 16 << 20;
/// All manifests of one answer: a config has at most a few MiB of text.
const TEXTS_MAX: usize = 8 << 20;
/// Without a word of the kernel's, as files of others change beside the list.
const LOOK: Duration = Duration::from_secs(5);

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
    mut changes: Changes,
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: Writer,
) -> Result<()> {
    let mut told = Value::Null;
    loop {
        let now = list(places);
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
