//! Word of changes in folders, from the kernel (inotify), so that what is read from files is read again at once.
//!
//! A watch costs an inotify instance, a descriptor and a thread, and none of them is given back: each is made once in a
//! process, and whoever waits for the same changes has a clone. It says that there was a change and not which, and any
//! number of changes that nobody has taken notice of is one.

use crate::say;
use inotify::{Inotify, WatchDescriptor, WatchMask};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// A change writes several files; those that belong together are one change.
const SETTLE: Duration = Duration::from_millis(20);

/// A folder, and whether a change of this name in it is of interest.
pub(crate) type Folder = (PathBuf, fn(&str) -> bool);

/// See the file's doc.
#[derive(Debug, Clone)]
pub(crate) struct Changes(watch::Receiver<()>);

impl Changes {
    /// From now on. Where it cannot be had (no inotify instance is left) it is silent for ever, and it is said that
    /// changes of `what` are seen `late`: those who wait look by time as well.
    pub(crate) fn of(what: &str, late: Duration, mask: WatchMask, folders: &[Folder]) -> Self {
        let (sender, receiver) = watch::channel(());
        let watching = Inotify::init().and_then(|inotify| {
            let mut of_interest: HashMap<WatchDescriptor, fn(&str) -> bool> = HashMap::new();
            for (folder, is_of_interest) in folders {
                match inotify.watches().add(folder, mask) {
                    Ok(watch) => drop(of_interest.insert(watch, *is_of_interest)),
                    // The others are seen all the same.
                    Err(error) => unseen(what, late, &format!("{}: {error}", folder.display())),
                }
            }
            let thread = std::thread::Builder::new().name("inotify".to_owned());
            thread.spawn(move || forward(inotify, &of_interest, &sender))
        });
        if let Err(error) = watching {
            unseen(what, late, &error.to_string());
        }
        Self(receiver)
    }

    /// Returns when there was a change; at once for one that was before this call and after the last one.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for what belongs to the change that [`Self::next`] told of.
    pub(crate) async fn settle(&mut self) {
        sleep(SETTLE).await;
        self.0.mark_unchanged();
    }
}

fn unseen(what: &str, late: Duration, why: &str) {
    say::line(&format!("watch {what}: {why}; changes are seen {} s late", late.as_secs()));
}

/// Any name.
pub(crate) fn all(_: &str) -> bool {
    true
}

/// Ends when nobody waits any more, at the next change.
fn forward(
    mut inotify: Inotify,
    of_interest: &HashMap<WatchDescriptor, fn(&str) -> bool>,
    sender: &watch::Sender<()>,
) {
    let mut buffer = [0; 4096];
    while let Ok(mut events) = inotify.read_events_blocking(&mut buffer) {
        // What is of no folder says that events were lost.
        let is_ours = events.any(|event| {
            let name = event.name.unwrap_or_default().to_string_lossy();
            of_interest.get(&event.wd).is_none_or(|is_of_interest| is_of_interest(&name))
        });
        if is_ours && sender.send(()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[tokio::test]
    async fn each_waiter_is_told_of_changes_in_each_folder() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (root.path().join("one"), root.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&other).unwrap();
        // One that is not there takes no word of the others away.
        let missing = (root.path().join("missing"), all as fn(&str) -> bool);
        let folders: [Folder; 3] = [missing, (one.clone(), all), (other.clone(), |name| name == "ours")];
        let mut first = Changes::of("it", Duration::ZERO, WatchMask::CLOSE_WRITE, &folders);
        let mut second = first.clone();
        for place in [other.join("ours"), one.join("x")] {
            std::fs::write(place, "").unwrap();
            first.next().await;
            second.next().await;
        }
    }

    #[tokio::test]
    async fn without_a_watch_nothing_is_told() {
        let folders: [Folder; 1] = [(Path::new("/no/such/folder").to_owned(), all)];
        let mut changes = Changes::of("it", Duration::ZERO, WatchMask::CLOSE_WRITE, &folders);
        tokio::select! {
            biased;
            () = changes.next() => panic!("there was no change"),
            () = std::future::ready(()) => {}
        }
    }
}
