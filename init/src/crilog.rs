//! One line of a container's log in the CRI format: bytes -> [`Line`].
//!
//! `2026-01-31T12:00:00.123456789Z stdout F text`: time in RFC 3339 with up to nine digits of a second, stream, tags
//! joined by colons of which the first says whether the line is whole, and the text, whatever it holds. The kubelet
//! and the runtime agree on it (pkg/kubelet/kuberuntime/logs/logs.go: parseCRILog). Opens no file.

/// The most bytes that a runtime writes as one line: containerd cuts at 16 KiB, CRI-O at 8 KiB; with room for what
/// stands before the text. A reader need not hold more than this for one line.
pub const MAX_LINE: usize = 32 * 1024;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written: RFC 3339 with up to nine digits of a second.
    pub time: &'a str,
    /// Where the container wrote it.
    pub stream: Stream,
    /// False when the text goes on in the next line of this stream: the runtime cut it at its limit.
    pub whole: bool,
    /// The text without the line feed; any bytes.
    pub text: &'a [u8],
}

/// What a container writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As it stands in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Reads one line, with or without its line feed. `None` for what is not of the form: after a power cut a log may
/// begin, end or go on with anything.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    if line.contains(&b'\n') {
        return None;
    }
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    // A line without text may have no blank at its end.
    let (tags, text) = word(rest).unwrap_or((rest, b""));
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let whole = match tags.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line { time: is_time(time).then(|| std::str::from_utf8(time).ok())??, stream, whole, text })
}

/// What stands before the first blank, and after it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// `2026-01-31T12:00:00`, a point and digits perhaps, and `Z` or `+01:00`. Digits in their places; that a month has
/// its days is not looked at.
fn is_time(text: &[u8]) -> bool {
    let shaped = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text.iter().zip(shape).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    let Some((second, rest)) = text.split_at_checked(b"0000-00-00T00:00:00".len()) else {
        return false;
    };
    let digits = match rest.strip_prefix(b".") {
        Some(rest) => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    let zone = match (rest.first(), digits) {
        (Some(b'.'), 1..=9) => rest.get(digits + 1..).unwrap_or_default(),
        (Some(b'.'), _) => return false,
        _ => rest,
    };
    let zoned = zone == b"Z" || shaped(zone, b"+00:00") || shaped(zone, b"-00:00");
    shaped(second, b"0000-00-00T00:00:00") && zoned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stdout P log content 1\n").unwrap();
        assert_eq!(line.time, "2016-10-06T00:17:09.669794202Z");
        assert_eq!((line.stream, line.whole), (Stream::Stdout, false));
        assert_eq!(line.text, b"log content 1");
        let line = parse(b"2026-01-31T12:00:00+01:00 stderr F:tag  two blanks, \xff and \t").unwrap();
        assert_eq!((line.stream.name(), line.whole), ("stderr", true));
        assert_eq!(line.text, b" two blanks, \xff and \t");
    }

    #[test]
    fn a_line_may_be_empty() {
        for text in ["2026-01-31T12:00:00.1Z stdout F ", "2026-01-31T12:00:00.1Z stdout F"] {
            assert_eq!(parse(text.as_bytes()).unwrap().text, b"", "{text:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "\n",
            "text",
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Z stdout",
            "2026-01-31T12:00:00Z stdout ",
            "2026-01-31T12:00:00Z stdout X text",
            "2026-01-31T12:00:00Z stdin F text",
            "2026-01-31T12:00:00Z  stdout F text",
            " 2026-01-31T12:00:00Z stdout F text",
            "2026-01-31T12:00:00 stdout F text",
            "2026-01-31T12:00:00.Z stdout F text",
            "2026-01-31T12:00:00.1234567890Z stdout F text",
            "2026-01-31 12:00:00Z stdout F text",
            "2026-01-31T12:00:00+0100 stdout F text",
            "2026-01-31T12:00:00Z stdout F a\n2026-01-31T12:00:00Z stdout F b\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
