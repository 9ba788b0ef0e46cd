//! What apid has to say: lines on stderr, which land in its log, and what an operator must see in the boot log too.
//!
//! Nothing here fails or blocks for long: a line that cannot be written is lost. It also tells PID 1 that a service
//! is up.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The kernel takes records of up to about 1 KiB; one that is too long would be refused.
const LINE_MAX: usize = 900;
/// What is not told within this is lost.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// A line for the log.
pub(crate) fn line(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A line for the log and for the boot log.
pub(crate) fn loud(text: &str) {
    line(text);
    if let Ok(mut kernel) = std::fs::File::options().write(true).open("/dev/kmsg") {
        // As above.
        drop(kernel.write_all(&record(text)));
    }
}

/// Tells PID 1 that the service is up.
pub(crate) fn ready() {
    notify("READY=1");
}

/// Asks PID 1 to say a line on the console.
pub(crate) fn status(text: &str) {
    notify(&format!("STATUS={text}"));
}

/// Tells PID 1 what another service has answered; see [`podium_init::notices::health`].
pub(crate) fn health(service: &str, asked: Duration, failure: Option<&str>) {
    notify(&podium_init::notices::health(service, asked, failure));
}

fn notify(word: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        // PID 1 may be busy, and its queue full.
        socket.set_write_timeout(Some(TELL_LIMIT))?;
        socket.send_to(word.as_bytes(), path)
    });
    if let Err(error) = sent {
        line(&format!("{word} was not told: {error}"));
    }
}

/// A kernel record at level warning: one line without control characters.
fn record(text: &str) -> Vec<u8> {
    let mut clean: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if clean.len() > LINE_MAX {
        clean.truncate(clean.floor_char_boundary(LINE_MAX));
        clean += "...";
    }
    format!("<4>podium: apid: {clean}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_bounded_line() {
        assert_eq!(record("a\nb\u{7}c"), b"<4>podium: apid: a b c\n");
        let long = record(&"\u{e9}".repeat(2000));
        assert!(long.len() < 1000 && std::str::from_utf8(&long).unwrap().ends_with("...\n"));
    }
}
