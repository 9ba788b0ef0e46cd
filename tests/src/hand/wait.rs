//! Waiting for something inside a node, for as long as the guest's own clock says.

use super::Hand;
use crate::console::{Console, Line, SHOWN_ON_FAILURE};
use anyhow::{Context, Result, bail};
use std::thread;
use std::time::{Duration, Instant};

/// Each question costs the guest some of the processor that what is waited for needs.
const PAUSE: Duration = Duration::from_millis(500);
/// How much slower than the host's a guest's clock may be: without KVM it counts instructions, see
/// [`crate::qemu::Clock`].
const SLOWEST: u32 = 10;

impl Hand {
    /// Asks `what` again and again until it gives `Some`.
    ///
    /// # Errors
    /// After `limit` by the guest's clock, or ten times that by the host's; with the last error if there was one.
    pub fn wait<T>(
        &self,
        name: &str,
        limit: Duration,
        what: impl Fn(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        self.wait_every(PAUSE, name, limit, what)
    }

    /// The same with another time between two looks, for what may be there only for a moment.
    ///
    /// # Errors
    /// As [`Hand::wait`].
    pub fn wait_every<T>(
        &self,
        pause: Duration,
        name: &str,
        limit: Duration,
        what: impl Fn(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let (since, guest_since) = (Instant::now(), self.uptime());
        // A guest that boots meanwhile, or does not answer, has no clock to go by.
        let is_over = || {
            let guest = guest_since.as_ref().ok().zip(self.uptime().ok());
            let guest = guest.and_then(|(since, now)| now.checked_sub(*since));
            since.elapsed() > limit * SLOWEST || guest.is_none_or(|passed| passed > limit)
        };
        loop {
            let error = match what(self) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if since.elapsed() > limit && is_over() {
                let error = error.map_or_else(String::new, |error| format!(": {error:#}"));
                let (limit, waited) = (limit.as_secs(), since.elapsed().as_secs());
                bail!("{name}: not within {limit} s of the guest's, {waited} of ours{error}");
            }
            thread::sleep(pause);
        }
    }

    /// Waits for a line of the node's console, from number `from` on, that contains `text`. Unlike
    /// [`Console::wait`] it goes by the guest's clock: for what is promised within `limit`.
    ///
    /// # Errors
    /// As [`Hand::wait`]; it holds the console's last lines.
    pub fn reads(&self, console: &Console, from: usize, text: &str, limit: Duration) -> Result<Line> {
        self.wait(&format!("\"{text}\""), limit, |_| Ok(console.find(from, text)))
            .with_context(|| format!("the console's last lines:\n{}", console.tail(SHOWN_ON_FAILURE)))
    }

    /// How long the guest has been up, by its own clock.
    ///
    /// # Errors
    /// When the pod does not answer.
    pub fn uptime(&self) -> Result<Duration> {
        let text = self.read("/proc/uptime")?;
        let seconds = text.split_whitespace().next().context("/proc/uptime is empty")?;
        Ok(Duration::try_from_secs_f64(seconds.parse().with_context(|| text.clone())?)?)
    }
}
