//! The one door to standard output and standard error: data there, words here, and what an error means for the exit
//! code.

use crate::fault::Fault;
use anyhow::Result;
use podium_podiumctl::style::Style;
use podium_podiumctl::table::printable_lines;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

/// A failure of which everything has been said.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(crate) struct Said;

/// Writes data.
///
/// # Errors
/// When the output is closed; [`end`] takes that for the end and not for a failure.
pub(crate) fn data(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref())?;
    Ok(out.flush()?)
}

/// Says something to the person. It may have a node's words in it, so it does not move the terminal.
pub(crate) fn note(text: &str) {
    painted(&printable_lines(text));
}

/// Says what has colours of its own: whoever has given it those has made everything else harmless.
pub(crate) fn painted(text: &str) {
    write_error(&format!("{text}\n"));
}

/// Something that the person should know but that stops nothing.
pub(crate) fn warn(text: &str) {
    painted(&format!("{}: {}", on_stderr().yellow("warning"), printable_lines(text)));
}

/// What went wrong, and what to do about it.
pub(crate) fn fault(fault: &Fault) {
    painted(&format!("{}: {}", on_stderr().red("error"), printable_lines(&fault.what)));
    if let Some(remedy) = &fault.remedy {
        painted(&format!(" {}  {}", on_stderr().bold("hint:"), printable_lines(remedy)));
    }
}

/// Colours on standard error.
pub(crate) fn on_stderr() -> Style {
    style(std::io::stderr().is_terminal())
}

/// Colours on standard output.
pub(crate) fn on_stdout() -> Style {
    style(std::io::stdout().is_terminal())
}

/// Says an error, unless that was done, and gives the exit code.
pub(crate) fn end(error: &anyhow::Error) -> ExitCode {
    // Who has closed our output wants no more of it: podiumctl logs kubelet -f | head.
    let closed = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe);
    if closed {
        return ExitCode::SUCCESS;
    }
    if error.is::<Said>() {
        return ExitCode::FAILURE;
    }
    match error.downcast_ref::<Fault>() {
        Some(one) => {
            fault(one);
            if one.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
        None => {
            fault(&Fault::new(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn style(terminal: bool) -> Style {
    let no_color = std::env::var_os("NO_COLOR").map(|value| value.to_string_lossy().into_owned());
    Style::new(terminal, no_color.as_deref())
}

/// A person who cannot be told cannot be told that.
fn write_error(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
