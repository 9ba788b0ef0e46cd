//! `init preload`: imports the image's OCI archives that containerd does not hold yet.
//!
//! A step: it ends with 0 when everything is there, and is tried again by the supervisor when not. In the usual boot
//! the stamp says at once that nothing is missing: it then says READY before containerd runs, so that the kubelet does
//! not wait for it, and still makes sure afterwards. It decides nothing: that is `podium_init::archives`.

use crate::kmsg;
use crate::sys::{clock, file, limited, notify, process};
use anyhow::{Context, Result, bail};
use podium_init::archives::{Import, Stamp, seem_there, to_import};
use podium_init::paths;
use podium_init::services::ImageFacts;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// containerd's own client.
const CTR: &str = "/usr/bin/ctr";
/// The namespace that the kubelet's containers live in.
const NAMESPACE: &str = "k8s.io";
/// containerd's database of images, on every version from 1.2 on.
const DATABASE: &str = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
/// containerd itself is given two minutes to be ready.
const CONTAINERD_LIMIT: Duration = Duration::from_secs(150);
/// How often its socket is tried until then.
const CONTAINERD_POLL: Duration = Duration::from_millis(50);
/// To ask containerd for its images: an answer takes milliseconds, on a machine that swaps perhaps seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// To import one archive: a large image on a slow disk takes a minute.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);
/// A stamp of this size would name thousands of archives.
const STAMP_MAX: usize = 1 << 20;

/// Imports what is missing.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    kmsg::start();
    let text = file::read(Path::new(paths::IMAGE_FACTS), 1 << 20)?;
    let facts: ImageFacts =
        serde_json::from_slice(&text).with_context(|| format!("read {}", paths::IMAGE_FACTS))?;
    if facts.preload.is_empty() {
        return Ok(());
    }
    let stamp_path = Path::new(paths::PRELOAD_STAMP);
    // Without a stamp, or with a damaged one, everything is imported again: that is slow, and right.
    let read = file::read(stamp_path, STAMP_MAX).ok();
    let mut stamp: Stamp = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if seem_there(&facts.preload, &stamp, database()) {
        ready()?;
        // What the kubelet waits for now must not wait for this.
        if let Err(error) = process::step_back() {
            log::warn!("preload: {error}; it may keep the kubelet waiting");
        }
    }
    wait_for_containerd()?;
    let listed = ctr(&["images", "ls", "-q"], ASK_LIMIT)?.lines().map(str::to_owned).collect();
    let mut failed = 0;
    for import in to_import(&facts.preload, &stamp, &listed) {
        match perform(&import) {
            Ok(()) => {
                stamp.archives.insert(import.archive.file.clone(), import.archive.sha256.clone());
                stamp.database = database().with_context(|| format!("{DATABASE} is not there"))?;
                keep(stamp_path, &stamp)?;
            }
            Err(error) => {
                failed += 1;
                log::error!("preload: {}: {error:#}", import.archive.file);
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} archives could not be imported", facts.preload.len()),
    }
}

/// The inode of containerd's database, if it has one yet.
fn database() -> Option<u64> {
    std::fs::metadata(DATABASE).map(|meta| meta.ino()).ok()
}

fn ready() -> Result<()> {
    let socket = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET is not set: not started by PID 1")?;
    Ok(notify::send(&socket, "READY=1")?)
}

fn wait_for_containerd() -> Result<()> {
    let until = clock::now() + CONTAINERD_LIMIT;
    while let Err(error) = UnixStream::connect(paths::CONTAINERD_SOCKET) {
        if clock::now() >= until {
            return Err(error).with_context(|| format!("connect to {}", paths::CONTAINERD_SOCKET));
        }
        std::thread::sleep(CONTAINERD_POLL);
    }
    Ok(())
}

fn perform(import: &Import<'_>) -> Result<()> {
    let begun = clock::now();
    if !import.remove.is_empty() {
        let mut args = vec!["images", "rm", "--sync"];
        args.extend(&import.remove);
        ctr(&args, ASK_LIMIT).context("remove what a cut-off import left")?;
    }
    let archive = Path::new(paths::IMAGE_PRELOAD).join(&import.archive.file);
    let archive = archive.to_str().context("the archive's name is not UTF-8")?;
    ctr(&["images", "import", archive], IMPORT_LIMIT)?;
    let took = (clock::now() - begun).as_secs_f64();
    kmsg::say(&format!("preload: imported {} in {took:.1} s", import.archive.images.join(" ")));
    Ok(())
}

/// Remembers what was imported, once it is sure to survive a power cut: containerd does not wait for its files.
fn keep(path: &Path, stamp: &Stamp) -> Result<()> {
    let folder = path.parent().context("the stamp's path has no folder")?;
    file::make_dir(folder, 0o700)?;
    let disk = std::fs::File::open(folder).with_context(|| format!("open {}", folder.display()))?;
    rustix::fs::syncfs(&disk).with_context(|| format!("sync the file system of {}", folder.display()))?;
    file::store(path, &serde_json::to_vec(stamp)?, 0o600)
}

fn ctr(args: &[&str], limit: Duration) -> Result<String> {
    let mut all = vec!["--address", paths::CONTAINERD_SOCKET, "--namespace", NAMESPACE];
    all.extend(args);
    limited::run(CTR, &all, limit)
}
