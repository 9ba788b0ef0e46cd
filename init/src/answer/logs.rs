//! What a service has said, from its log files, oldest line first; and what it says from now on.
//!
//! The writer (`logger.rs`) puts a full file aside as `.1` and begins a new one. Files are told apart by their inode,
//! so a follower goes on where it was, however often that happens meanwhile.

use crate::job::Client;
use crate::sys::At;
use crate::sys::poll::{self, For};
use anyhow::Result;
use podium_init::control::{self, Refusal, is_service_name, no_such_service};
use podium_init::loglines::{MARK, OLD_FILES, of_boot};
use podium_init::paths;
use rustix::fs::inotify;
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A longer line comes in parts; the log writer itself knows no bound but its file's.
const PART_MAX: usize = 16 << 10;
/// Read at a time.
const CHUNK: usize = 64 << 10;
/// The most of one file: the writer keeps to 1 MiB, somebody else's file below that name may be anything.
const FILE_MAX: u64 = 4 << 20;
/// How often a follower looks when the kernel has no inotify left for it.
const LOOK: Duration = Duration::from_secs(1);

/// Which of its lines.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Only so many of the last ones.
    pub(super) tail: Option<u64>,
    /// And those to come.
    pub(super) follow: bool,
    /// Only those of one boot: 0 is this one.
    pub(super) boots_back: Option<u64>,
}

/// Lines of `service`.
pub(super) fn answer(service: &str, wanted: &Wanted, client: &mut Client) -> Result<()> {
    answer_from(Path::new(paths::LOGS), service, wanted, client)
}

fn answer_from(folder: &Path, service: &str, wanted: &Wanted, client: &mut Client) -> Result<()> {
    let &Wanted { tail, follow, boots_back } = wanted;
    if follow && boots_back.is_some_and(|back| back > 0) {
        return Err(Refusal::new("an earlier boot says nothing more", "leave out -f").into());
    }
    let known = services(folder);
    if !is_service_name(service) || !known.iter().any(|known| known == service) {
        return Err(no_such_service(service, known.iter().map(String::as_str)).into());
    }
    let path = folder.join(format!("{service}.log"));
    // Before the files are read: what comes meanwhile wakes us.
    let news = follow.then(|| watch(folder)).flatten();
    let mut text = Vec::new();
    let mut last = None;
    for mut file in open_all(&path)? {
        (&mut file).take(FILE_MAX).read_to_end(&mut text).at("read", &path)?;
        last = Some(file);
    }
    let part = match boots_back {
        None => text.as_slice(),
        Some(back) => of_boot(&text, back).map_err(|count| {
            Refusal::new(
                "the log of that boot is not kept any more",
                format!("it holds {count} boots: 0 is this one"),
            )
        })?,
    };
    client.send_line(&control::ok())?;
    let mut lines = Lines { client, rest: Vec::new() };
    lines.take(last_lines(part, tail))?;
    drop(text);
    if !follow {
        return lines.end();
    }
    let mut follower = Follower { path, last };
    loop {
        follower.read_on(&mut lines)?;
        if wait(lines.client.as_fd(), news.as_ref())? {
            return Ok(());
        }
    }
}

/// Names of those that have a log.
fn services(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect();
    names.sort();
    names
}

/// All files of one log, the oldest first.
fn open_all(path: &Path) -> Result<Vec<File>> {
    let mut files: Vec<(u64, File)> = Vec::new();
    // The newest first: one that is put aside meanwhile is met again under its next name, and none is missed.
    for n in 0..=OLD_FILES {
        let name = if n == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{n}", path.display())) };
        match File::open(&name) {
            Ok(file) => {
                let inode = file.metadata().at("stat", &name)?.ino();
                if files.iter().all(|(known, _)| *known != inode) {
                    files.push((inode, file));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => Err(error).at("open", name)?,
        }
    }
    Ok(files.into_iter().rev().map(|(_, file)| file).collect())
}

/// The last `count` lines of a text; a last one without its end counts.
fn last_lines(text: &[u8], count: Option<u64>) -> &[u8] {
    let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else { return text };
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    match count {
        0 => &[],
        count => {
            let ends = whole.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
            let start = ends.map(|(at, _)| at + 1).nth(count - 1).unwrap_or(0);
            text.get(start..).unwrap_or_default()
        }
    }
}

/// Tells of everything that happens in the folder.
fn watch(folder: &Path) -> Option<OwnedFd> {
    let news = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&news, folder, what).ok()?;
    Some(news)
}

/// Waits for news, and forgets what they were. True when the client is gone.
fn wait(client: BorrowedFd<'_>, news: Option<&OwnedFd>) -> Result<bool> {
    let mut fds = vec![(client, For::End)];
    fds.extend(news.map(|news| (news.as_fd(), For::Reading)));
    let ready = poll::wait(&fds, news.is_none().then_some(LOOK))?;
    let mut buffer = [0; 4096];
    while let Some(news) = news
        && rustix::io::read(news, &mut buffer).is_ok_and(|length| length > 0)
    {}
    Ok(ready.first() == Some(&true))
}

/// Where a follower is.
#[derive(Debug)]
struct Follower {
    path: PathBuf,
    /// The file that was read last, up to its end as it was then.
    last: Option<File>,
}

impl Follower {
    /// Reads what was written since the last time, over all files that were begun meanwhile.
    fn read_on(&mut self, lines: &mut Lines<'_>) -> Result<()> {
        let Some(last) = &mut self.last else { return self.begin(0, lines) };
        read(last, &self.path, lines)?;
        let inode = last.metadata().at("stat", &self.path)?.ino();
        match std::fs::metadata(&self.path) {
            Ok(now) if now.ino() == inode => return Ok(()),
            // Between two renames.
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
        // The writer may have added to it before it was put aside.
        read(last, &self.path, lines)?;
        self.begin(inode, lines)
    }

    /// Reads the files after the one with this inode.
    fn begin(&mut self, inode: u64, lines: &mut Lines<'_>) -> Result<()> {
        let files = open_all(&self.path)?;
        let inodes: Vec<u64> =
            files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.ino()).collect();
        let place = inodes.iter().position(|known| *known == inode);
        if place.is_none() && inode != 0 {
            lines.take(format!("{MARK}lines are missing here, they came too fast\n").as_bytes())?;
        }
        for mut file in files.into_iter().skip(place.map_or(0, |place| place + 1)) {
            read(&mut file, &self.path, lines)?;
            self.last = Some(file);
        }
        Ok(())
    }
}

/// To the end of the file, or as long as one may be.
fn read(file: &mut File, path: &Path, lines: &mut Lines<'_>) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut most = FILE_MAX;
    while most > 0 {
        let length = match file.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            length => length.at("read", path)?,
        };
        if length == 0 {
            return Ok(());
        }
        lines.take(chunk.get(..length).unwrap_or_default())?;
        most = most.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// Bytes in, lines out.
struct Lines<'a> {
    client: &'a mut Client,
    /// A line in the making.
    rest: Vec<u8>,
}

impl Lines<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(PART_MAX) {
                self.rest.extend_from_slice(part);
                if self.rest.last() == Some(&b'\n') {
                    self.rest.pop();
                    self.send(false)?;
                } else if self.rest.len() >= PART_MAX {
                    self.send(true)?;
                }
            }
        }
        Ok(())
    }

    /// What has no line feed is told, too.
    fn end(&mut self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { self.send(false) }
    }

    fn send(&mut self, partial: bool) -> Result<()> {
        let text = String::from_utf8_lossy(&self.rest);
        let line = if partial { json!({"line": text, "partial": true}) } else { json!({"line": text}) };
        self.client.send(&line)?;
        self.rest.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
