//! Follows the kubelet's log: the lines that are new since the last look, over rotations, a bounded number a look.
//!
//! The log holds earlier boots as well; what comes before the last boot's mark is not of this node's pods.

use podium_init::loglines::MARK;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is read at a look: the whole of a log file, which is put aside at that size. When more has come since the last
/// look the oldest is passed over; the kubelet repeats what is still wrong.
const LOOK_MAX: u64 = 1 << 20;
/// A line that is longer says nothing that is looked for.
const LINE_MAX: usize = 64 << 10;

/// A log file that is followed.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    /// Inode of the file that was read, and how far.
    read: Option<(u64, u64)>,
    /// A line whose end was not there yet.
    begun: Vec<u8>,
}

impl Tail {
    /// Follows the file at `path`, which need not be there yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: None, begun: Vec::new() }
    }

    /// Gives each new line to `take`, and before that `forget` when a boot began in between.
    pub(crate) fn look(&mut self, mut take: impl FnMut(Line<'_>)) {
        let Ok((mut file, inode, size)) = open(&self.path) else { return };
        let mut from = match self.read {
            Some((known, from)) if known == inode && from <= size => from,
            _ => {
                self.begun.clear();
                0
            }
        };
        if size - from > LOOK_MAX {
            from = size - LOOK_MAX;
            self.begun.clear();
        }
        let mut bytes = std::mem::take(&mut self.begun);
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(LOOK_MAX).read_to_end(&mut bytes));
        let Ok(read) = read else { return };
        self.read = Some((inode, from + u64::try_from(read).unwrap_or(0)));
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let (lines, rest) = bytes.split_at(end);
        for line in
            lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && line.len() <= LINE_MAX)
        {
            let line = String::from_utf8_lossy(line);
            let is_boot = line.strip_prefix(MARK).is_some_and(|mark| mark.starts_with("boot "));
            take(if is_boot { Line::Boot } else { Line::Text(&line) });
        }
        if rest.len() <= LINE_MAX {
            self.begun = rest.to_vec();
        }
    }
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'t> {
    /// Everything before is of an earlier boot.
    Boot,
    /// The kubelet's.
    Text(&'t str),
}

fn open(path: &Path) -> std::io::Result<(File, u64, u64)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta.ino(), meta.size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.look(|line| match line {
            Line::Boot => lines.push("BOOT".to_owned()),
            Line::Text(text) => lines.push(text.to_owned()),
        });
        lines
    }

    #[test]
    fn each_line_is_seen_once_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.log");
        let mut tail = Tail::new(path.clone());
        assert!(lines(&mut tail).is_empty());
        std::fs::write(&path, format!("old\n{MARK}boot 1 at x\none\ntw")).unwrap();
        assert_eq!(lines(&mut tail), ["old", "BOOT", "one"]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(lines(&mut tail), ["two", "three"]);
        assert!(lines(&mut tail).is_empty());
        // Put aside, and a new one in its place.
        std::fs::rename(&path, dir.path().join("kubelet.log.1")).unwrap();
        std::fs::write(&path, "four\n").unwrap();
        assert_eq!(lines(&mut tail), ["four"]);
    }

    #[test]
    fn a_flood_is_read_up_to_the_bound_and_the_newest_lines_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.log");
        let mut text = "x".repeat(200_000) + "\n";
        for number in 0..40_000 {
            text += &format!("line {number:090}\n");
        }
        std::fs::write(&path, &text).unwrap();
        let seen = lines(&mut Tail::new(path));
        assert!(seen.len() < 20_000 && seen.last().unwrap().ends_with("39999"));
    }
}
