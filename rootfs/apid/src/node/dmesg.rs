//! The kernel's log, one line a record: `kern:    info: [2026-01-31T12:00:00.123456Z]: text`, as Talos writes it.

use super::output::{Fault, Sink};
use crate::places::Places;
use podium_init::kernellog::{self, RECORD_MAX};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where the kernel gives a record a read.
const KERNEL_LOG: &str = "/dev/kmsg";
/// How often a follower looks.
const LOOK: Duration = Duration::from_millis(200);
/// syslog(3)'s names, by number.
const FACILITIES: [&str; 12] =
    ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
/// As the kernel numbers them: a priority has the level in its last three bits.
const LEVEL_BITS: u32 = 3;

/// All records that the kernel still has, or with `tail` none of them, and with `follow` those to come.
pub(super) fn tell(places: &Places, follow: bool, tail: bool, sink: &Sink) -> Result<(), Fault> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let log = match rustix::fs::open(places.at(KERNEL_LOG), flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::PERM) => {
            return Err(Fault::unavailable(
                "the kernel's log is not to be had here: in a container it is the host's",
            ));
        }
        log => log.map_err(|error| Fault::of(KERNEL_LOG, error))?,
    };
    if tail {
        rustix::fs::seek(&log, rustix::fs::SeekFrom::End(0)).map_err(|error| Fault::of(KERNEL_LOG, error))?;
    }
    sink.begin()?;
    let mut buffer = [0; RECORD_MAX];
    loop {
        match rustix::io::read(&log, &mut buffer) {
            // Only a test's stand-in has an end.
            Ok(0) => return Ok(()),
            Ok(length) => {
                if let Some(line) = buffer.get(..length).and_then(|record| line(record, boot_time())) {
                    sink.data(line.as_bytes())?;
                }
            }
            // The kernel has overwritten what was next.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(Errno::AGAIN) if !follow || sink.is_gone() => return Ok(()),
            Err(Errno::AGAIN) => std::thread::sleep(LOOK),
            Err(error) => return Err(Fault::of(KERNEL_LOG, error)),
        }
    }
}

/// When the machine was booted, by the clock as it is now.
fn boot_time() -> OffsetDateTime {
    let up = clock_gettime(ClockId::Boottime);
    OffsetDateTime::now_utc() - time::Duration::new(up.tv_sec, i32::try_from(up.tv_nsec).unwrap_or(0))
}

fn line(record: &[u8], boot: OffsetDateTime) -> Option<String> {
    let parsed = kernellog::parse(record)?;
    let digits = record.split(|byte| *byte == b',').next()?;
    let priority: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let facility = usize::try_from(priority >> LEVEL_BITS).ok()?;
    let facility = FACILITIES.get(facility).copied().unwrap_or("unknown");
    let level = if parsed.level == "warn" { "warning" } else { parsed.level };
    let at = boot + time::Duration::microseconds(i64::try_from(parsed.at_us).ok()?);
    Some(format!("{facility}: {level:>7}: [{}]: {}\n", at.format(&Rfc3339).ok()?, parsed.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_with_facility_level_and_time() {
        let boot = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let told = |record: &[u8]| line(record, boot).unwrap();
        assert_eq!(told(b"6,1,1500000,-;up\n A=b\n"), "kern:    info: [2023-11-14T22:13:21.5Z]: up\n");
        assert_eq!(told(b"12,1,0,-;podium: x"), "user: warning: [2023-11-14T22:13:20Z]: podium: x\n");
        assert!(told(b"200,1,0,-;x").starts_with("unknown:"));
        assert_eq!(line(b"x", boot), None);
    }
}
