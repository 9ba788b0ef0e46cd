//! What the log writer does with bytes from a service: where a file is full, and what is said when one cannot be
//! written. Bytes and outcomes in, decisions out; `logger.rs` performs them.
//!
//! Lines are kept as the service wrote them (most carry a time of their own), so the files read like those of any
//! other system. Podium's own lines in them begin with [`MARK`].

mod queue;

pub use queue::{QUEUE_MAX, Queue, Taken};

/// A file is put aside at this size: with the old ones, 4 MiB a service, which the smallest /var affords.
pub const FILE_MAX: u64 = 1 << 20;
/// How many old files are kept: `kubelet.log.1` (newest) to `kubelet.log.3`.
pub const OLD_FILES: u32 = 3;
/// Begins a line that is Podium's and not the service's.
pub const MARK: &str = "-- podium: ";

/// How much of `bytes` goes into the file as it is; the rest goes into a new one.
///
/// `size`: bytes in the file. `at_line_start`: it is empty or ends with a line feed. Files are divided between
/// lines; only a line longer than a whole file is divided itself. The answer is less than `bytes.len()` exactly when
/// the file is full, and is never 0 for an empty file.
pub fn room(size: u64, at_line_start: bool, bytes: &[u8]) -> usize {
    let room = usize::try_from(FILE_MAX.saturating_sub(size)).unwrap_or(usize::MAX);
    let Some(fitting) = bytes.get(..room).filter(|fitting| fitting.len() < bytes.len()) else {
        return bytes.len();
    };
    match fitting.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => last + 1,
        // The one line in `bytes` begins here and may fit into a new file.
        None if at_line_start && size > 0 => 0,
        None => fitting.len(),
    }
}

/// Which renames put a full file aside, in order; the oldest one is replaced.
pub fn rotation(file: &str) -> Vec<(String, String)> {
    let name = |n: u32| if n == 0 { file.to_owned() } else { format!("{file}.{n}") };
    (0..OLD_FILES).rev().map(|n| (name(n), name(n + 1))).collect()
}

/// Whether a service's log can be written, so that trouble is said once and not once a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    lost: u64,
}

impl Health {
    /// A write failed and `bytes` are lost. The answer is to be said on the console, if there is one.
    pub fn failed(&mut self, file: &str, error: &str, bytes: usize) -> Option<String> {
        let first = self.lost == 0;
        self.lost = self.lost.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        first.then(|| format!("log: {file}: {error}; lines are dropped until it can be written again"))
    }

    /// Called before a write that may succeed: the line that tells the file's reader of the gap.
    pub fn gap(&self) -> Option<String> {
        (self.lost > 0)
            .then(|| format!("{MARK}{} bytes are missing here, the file could not be written\n", self.lost))
    }

    /// A write succeeded. The answer is to be said on the console, if there is one.
    pub fn worked(&mut self, file: &str) -> Option<String> {
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then(|| format!("log: {file}: written again, {lost} bytes were lost"))
    }
}

/// The line that tells the file's reader of what fell out of the queue before it could be written.
pub fn too_fast(lost: u64) -> String {
    format!("{MARK}{lost} bytes are missing here, they came faster than they could be written\n")
}

/// The line that begins a boot in each file. `id` is the kernel's boot id, `unix` the wall clock, which may be wrong
/// this early.
pub fn boot_mark(id: &str, unix: u64) -> String {
    format!("{MARK}boot {id} at {}\n", utc(unix))
}

/// The part of a log that one boot wrote, with its mark: 0 is the last one, which a running node's own is.
///
/// # Errors
/// The log holds only so many boots.
pub fn of_boot(text: &[u8], back: u64) -> Result<&[u8], usize> {
    let mark = [MARK.as_bytes(), b"boot "].concat();
    let mut starts = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(&mark) {
            starts.push(start);
        }
        start += line.len();
    }
    if starts.is_empty() && !text.is_empty() {
        // So much was written since, or the file was made anew, that no mark is left: all of it is the last boot's.
        starts.push(0);
    }
    let place = usize::try_from(back).ok().and_then(|back| starts.len().checked_sub(back.checked_add(1)?));
    let from = place.and_then(|place| starts.get(place)).ok_or(starts.len())?;
    let to = place.and_then(|place| starts.get(place + 1)).copied().unwrap_or(text.len());
    Ok(text.get(*from..to).unwrap_or_default())
}

/// `2026-10-01T12:00:00Z` for seconds since 1970.
pub fn utc(unix: u64) -> String {
    let (days, of_day) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day counted from 1970-01-01. Years are counted from March, so that a leap day ends one.
fn civil(days: u64) -> (u64, u64, u64) {
    const FOUR_CENTURIES: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_boots_lines_are_those_from_its_mark_to_the_next() {
        let text = b"cut off\n-- podium: boot a at x\n1\n-- podium: 5 bytes\n-- podium: boot b at y\n2\n";
        assert_eq!(of_boot(text, 0), Ok(&b"-- podium: boot b at y\n2\n"[..]));
        assert_eq!(of_boot(text, 1), Ok(&b"-- podium: boot a at x\n1\n-- podium: 5 bytes\n"[..]));
        assert_eq!((of_boot(text, 2), of_boot(text, u64::MAX), of_boot(b"", 0)), (Err(2), Err(2), Err(0)));
        assert_eq!((of_boot(b"no mark\n", 0), of_boot(b"no mark\n", 1)), (Ok(&b"no mark\n"[..]), Err(1)));
    }

    #[test]
    fn what_fits_is_written_whole() {
        assert_eq!(room(0, true, b"abc\n"), 4);
        assert_eq!(room(FILE_MAX - 4, true, b"abc\n"), 4);
    }

    #[test]
    fn a_full_file_ends_with_a_line() {
        assert_eq!(room(FILE_MAX - 6, true, b"abc\ndef\n"), 4);
        assert_eq!(room(FILE_MAX - 3, true, b"abc\n"), 0);
        assert_eq!(room(FILE_MAX, true, b"abc\n"), 0);
        assert_eq!(room(FILE_MAX + 9, true, b"abc\n"), 0);
    }

    #[test]
    fn a_line_longer_than_a_file_is_divided() {
        let long = vec![b'x'; 3 << 20];
        assert_eq!(room(0, true, &long), 1 << 20);
        assert_eq!(room(9, false, &long), (1 << 20) - 9);
    }

    proptest! {
        // A case moves megabytes through an unoptimised build.
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever a service writes: no byte is lost, no file is too big, and no file stays empty.
        #[test]
        fn every_byte_lands_in_a_file_of_bounded_size(
            chunks in prop::collection::vec((0usize..200_000, 1usize..3000), 1..40)
        ) {
            let (mut size, mut at_start, mut total, mut written) = (0u64, true, 0u64, 0u64);
            for (length, line) in chunks {
                let bytes: Vec<u8> = (0..length).map(|n| if n % line == line - 1 { b'\n' } else { b'x' }).collect();
                total += bytes.len() as u64;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let now = room(size, at_start, rest);
                    prop_assert!(now > 0 || size > 0, "an empty file takes something");
                    let (chunk, after) = rest.split_at(now);
                    size += now as u64;
                    written += now as u64;
                    prop_assert!(size <= FILE_MAX);
                    at_start = chunk.last().map_or(at_start, |byte| *byte == b'\n');
                    if !after.is_empty() {
                        (size, at_start) = (0, true);
                    }
                    rest = after;
                }
            }
            prop_assert_eq!(total, written);
        }
    }

    #[test]
    fn the_oldest_file_moves_first() {
        let moves = rotation("a.log");
        let moves: Vec<_> = moves.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(moves, [("a.log.2", "a.log.3"), ("a.log.1", "a.log.2"), ("a.log", "a.log.1")]);
    }

    #[test]
    fn trouble_is_said_once_and_its_end_too() {
        let mut health = Health::default();
        assert_eq!(health.worked("f"), None);
        assert_eq!(health.gap(), None);
        assert!(health.failed("f", "no space", 10).unwrap().contains("f: no space"));
        assert_eq!(health.failed("f", "no space", 5), None);
        assert!(health.gap().unwrap().starts_with("-- podium: 15 bytes"));
        assert!(health.worked("f").unwrap().contains("15 bytes"));
        assert_eq!(health.worked("f"), None);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(utc(4_294_967_295), "2106-02-07T06:28:15Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_boot_mark_is_one_line() {
        assert_eq!(boot_mark("7c0f", 0), "-- podium: boot 7c0f at 1970-01-01T00:00:00Z\n");
    }
}
