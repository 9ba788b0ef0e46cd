//! What a person sees while a command works: phases with their durations, on standard error, so that standard output
//! holds results alone (with `--json`: one JSON value). The commands it runs are printed by `podium_image::run`.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line about what goes on.
pub(crate) fn note(text: &str) {
    eprintln!("==> {text}");
}

/// Runs one part of a command and tells how long it took, also when it failed.
pub(crate) fn phase<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    note(name);
    let since = Instant::now();
    let done = work();
    let ending = if done.is_ok() { "done" } else { "FAILED" };
    note(&format!("{name}: {ending} after {}", seconds(since.elapsed())));
    done
}

/// A turning sign with the time that has passed, while something is waited for. Nothing when nobody watches.
pub(crate) fn spinner(text: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        note(text);
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(text.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar that fills, while so much is done one by one. Nothing but its name when nobody watches.
pub(crate) fn progress(text: &str, length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        note(&format!("{length} {text}"));
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(text.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A result, as the one JSON value on standard output.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// `1.2 s` or `3 min 20 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(100) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

/// Columns of text; the first to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(200)), "3 min 20 s");
    }

    #[test]
    fn a_tables_columns_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["part", "ms", "aim"]), row(["a", "1000", ""])]),
            "part    ms  aim\na     1000\n"
        );
    }
}
