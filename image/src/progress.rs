//! A progress bar for long work: drawn in place on a terminal, one line every quarter of a minute elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Progress over a known number of items.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    name: &'static str,
    items: &'static str,
    total: usize,
    done: usize,
    since: Instant,
    told: Instant,
}

/// How often a line is printed where no bar can be drawn.
const LINE_DELAY: Duration = Duration::from_secs(15);

impl Bar {
    /// A bar called `name` over `total` of `items`.
    pub fn new(name: &'static str, items: &'static str, total: usize) -> Bar {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)),
            false => ProgressBar::hidden(),
        };
        let template = format!("{name} [{{bar:30}}] {{pos}} of {{len}} {items}, {{elapsed}}");
        bar.set_style(
            ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        let now = Instant::now();
        Bar { bar, name, items, total, done: 0, since: now, told: now }
    }

    /// One more item is done.
    pub fn advance(&mut self) {
        self.done += 1;
        self.bar.inc(1);
        if self.bar.is_hidden() && self.told.elapsed() >= LINE_DELAY {
            self.told = Instant::now();
            let elapsed = self.since.elapsed().as_secs();
            eprintln!("{}: {} of {} {}, {elapsed} s", self.name, self.done, self.total, self.items);
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
