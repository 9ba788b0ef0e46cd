//! A log as several files: read from its last lines on, and followed over files that are put aside and begun anew.
//!
//! Files are told apart by their inode, so a follower goes on where it was, however often one is put aside.

use super::output::{Fault, PIECE, Sink};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// How often a follower looks: soon enough for a person, and a few system calls each.
const LOOK: Duration = Duration::from_millis(200);
/// Said where what was to be read next is gone.
const MISSING: &str = "-- podium: lines are missing here, they came too fast\n";

/// The files of a log, as they are now.
pub(super) trait Files {
    /// The oldest first, and which life of whoever writes they are of.
    fn open(&self) -> Result<(u64, Vec<File>), Fault>;
}

/// Tells the last `tail` lines, or all, and with `follow` what comes.
pub(super) fn tell(log: &impl Files, tail: Option<u64>, follow: bool, sink: &Sink) -> Result<(), Fault> {
    let (mut life, mut files) = log.open()?;
    sink.begin()?;
    let (first, from) = start(&mut files, tail);
    let mut last = None;
    for (place, mut file) in files.into_iter().enumerate().skip(first) {
        let at = if place == first { from } else { 0 };
        file.seek(SeekFrom::Start(at)).map_err(|error| Fault::of("log", error))?;
        read_on(&mut file, sink)?;
        last = Some(file);
    }
    while follow && !sink.is_gone() {
        std::thread::sleep(LOOK);
        if let Some(file) = &mut last {
            read_on(file, sink)?;
        }
        // A log that was removed may come again.
        let Ok((now, files)) = log.open() else { continue };
        let known = last.as_ref().and_then(inode);
        if files.last().and_then(inode) == known {
            rewind_if_cut(last.as_mut(), sink)?;
            continue;
        }
        // What was added before it was put aside.
        if let Some(file) = &mut last {
            read_on(file, sink)?;
        }
        let place = known.and_then(|known| files.iter().position(|file| inode(file) == Some(known)));
        if known.is_some() && are_missing(life, now, place.is_some()) {
            sink.data(MISSING.as_bytes())?;
        }
        life = now;
        for mut file in files.into_iter().skip(place.map_or(0, |place| place + 1)) {
            read_on(&mut file, sink)?;
            last = Some(file);
        }
    }
    Ok(())
}

/// Whether lines are gone between the file that was read and those that are there. A new life begins its own files, and
/// leaves none of the last one.
fn are_missing(before: u64, now: u64, is_there: bool) -> bool {
    if now == before { !is_there } else { now != before.saturating_add(1) }
}

/// A file that became shorter was begun anew in its place.
fn rewind_if_cut(file: Option<&mut File>, sink: &Sink) -> Result<(), Fault> {
    let Some(file) = file else { return Ok(()) };
    let size = file.metadata().map(|meta| meta.size()).unwrap_or(0);
    if file.stream_position().is_ok_and(|at| at > size) {
        file.rewind().map_err(|error| Fault::of("log", error))?;
        read_on(file, sink)?;
    }
    Ok(())
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|meta| meta.ino())
}

fn read_on(file: &mut File, sink: &Sink) -> Result<(), Fault> {
    let mut piece = [0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => sink.data(piece.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::of("read the log", error)),
        }
    }
}

/// The file and the byte in it where the last `tail` lines begin. A last line without its end counts.
fn start(files: &mut [File], tail: Option<u64>) -> (usize, u64) {
    let Some(mut wanted) = tail else { return (0, 0) };
    let mut is_end = true;
    for (place, file) in files.iter_mut().enumerate().rev() {
        let size = file.metadata().map(|meta| meta.size()).unwrap_or(0);
        if wanted == 0 {
            return (place, size);
        }
        let mut end = size;
        while end > 0 {
            let begin = end.saturating_sub(PIECE as u64);
            let mut piece = Vec::new();
            let read = file
                .seek(SeekFrom::Start(begin))
                .and_then(|_| file.take(end - begin).read_to_end(&mut piece));
            if read.is_err() {
                return (place, begin);
            }
            for (at, byte) in piece.iter().enumerate().rev() {
                if *byte == b'\n' && !std::mem::take(&mut is_end) {
                    wanted -= 1;
                    if wanted == 0 {
                        return (place, begin + at as u64 + 1);
                    }
                }
                is_end = false;
            }
            end = begin;
        }
    }
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn files(texts: &[&str]) -> Vec<File> {
        let file = |text: &&str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        texts.iter().map(file).collect()
    }

    #[test]
    fn lines_are_missing_when_a_file_is_gone_and_not_when_a_new_life_begins() {
        assert!(!are_missing(3, 3, true));
        assert!(are_missing(3, 3, false), "put aside and removed since the last look");
        assert!(!are_missing(3, 4, false), "a restart");
        assert!(are_missing(3, 5, false), "a whole life between two looks");
    }

    #[test]
    fn the_last_lines_are_found_over_files_and_pieces() {
        let long = format!("{}\nb\n", "x".repeat(3 * PIECE));
        for (texts, tail, expected) in [
            (&["a\nb\n", "c\nd"][..], Some(1), (1, 2)),
            (&["a\nb\n", "c\nd"], Some(2), (0, 4)),
            (&["a\nb\n", "c\nd\n"], Some(3), (0, 2)),
            (&["a\nb\n", "c\nd\n"], Some(4), (0, 0)),
            (&["a\nb\n", "c\nd\n"], Some(99), (0, 0)),
            (&["a\nb\n", "c\nd\n"], Some(0), (1, 4)),
            (&["a\nb\n", "c\nd\n"], None, (0, 0)),
            (&[&long], Some(1), (0, 3 * PIECE as u64 + 1)),
            (&[&long], Some(2), (0, 0)),
            (&["\n\n\n"], Some(2), (0, 1)),
            (&[], Some(2), (0, 0)),
            (&["a\n", ""], Some(1), (0, 0)),
        ] {
            assert_eq!(start(&mut files(texts), tail), expected, "{texts:?} {tail:?}");
        }
    }
}
