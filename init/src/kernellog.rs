//! Records of the kernel's log as `/dev/kmsg` gives them: text in, a record out. Reads nothing itself.
//!
//! A record is `priority,number,microseconds,flags[,…];text`, then lines of its own data that begin with a blank
//! (the kernel's Documentation/ABI/testing/dev-kmsg).

use serde::Serialize;

/// The longest record: `CONSOLE_EXT_LOG_MAX` (8192) of the kernel's printk.
pub const RECORD_MAX: usize = 8192;

/// syslog(3)'s names, by number.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The kernel's own number of it.
    pub seq: u64,
    /// Microseconds since boot.
    pub at_us: u64,
    /// `emerg` to `debug`.
    pub level: &'static str,
    /// What was said, one line.
    pub text: String,
}

/// Reads one record; `None` when it is none.
pub fn parse(record: &[u8]) -> Option<Record> {
    let record = record.get(..record.len().min(RECORD_MAX))?;
    let head_end = record.iter().position(|byte| *byte == b';')?;
    let (head, rest) = record.split_at_checked(head_end)?;
    let mut fields = std::str::from_utf8(head).ok()?.split(',');
    let priority: usize = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let at_us = fields.next()?.parse().ok()?;
    let text = rest.get(1..)?.split(|byte| *byte == b'\n').next()?;
    Some(Record { seq, at_us, level: LEVELS.get(priority % LEVELS.len())?, text: unescape(text) })
}

/// The kernel writes bytes that are not printable as `\xNN`. Control characters become blanks.
fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match escaped(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn escaped(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_has_number_time_level_and_text() {
        let record = parse(b"30,1234,5678901,-;podium: kubelet: up\n SUBSYSTEM=x\n DEVICE=y\n").unwrap();
        let expected =
            Record { seq: 1234, at_us: 5_678_901, level: "info", text: "podium: kubelet: up".into() };
        assert_eq!(record, expected);
        assert_eq!(parse(b"0,1,2,c,caller=T1;x").unwrap().level, "emerg");
    }

    #[test]
    fn what_the_kernel_escapes_is_undone_but_for_control_characters() {
        let text = |record: &[u8]| parse(record).unwrap().text;
        assert_eq!(
            text(b"6,1,2,-;a\\x09b\\x1b[1m \\xc3\\xa4 \\x5c \\xzz \\x4"),
            "a b [1m \u{e4} \\ \\xzz \\x4"
        );
        assert_eq!(text(b"6,1,2,-;a;b,c"), "a;b,c");
        assert_eq!(text(b"6,1,2,-;"), "");
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [&b""[..], b"6,1,2,-", b"x,1,2,-;a", b"6,-1,2,-;a", b"6;a", b"\xff,1,2;a"] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = parse(&bytes) {
                prop_assert!(!record.text.chars().any(char::is_control));
            }
        }
    }
}
