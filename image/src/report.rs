//! What a person sees while an image is made: each command, each phase with its time, warnings. All on stderr, since
//! stdout belongs to `--json`.

use std::time::{Duration, Instant};

/// Runs one phase; says when it took a noticeable time.
pub fn phase<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let since = Instant::now();
    let done = work();
    if done.is_ok() {
        finished(name, since.elapsed());
    }
    done
}

/// Says that something was done and how long it took.
pub fn finished(name: &str, took: Duration) {
    eprintln!("{name}: {:.1} s", took.as_secs_f64());
}

/// Something worth knowing.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Something that should be looked at.
pub fn warn(text: &str) {
    eprintln!("warning: {text}");
}
