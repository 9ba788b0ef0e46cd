//! A machine that is stopped and goes on later, also as several copies: QEMU's migration, to a file.

use crate::qemu::Machine;
use anyhow::{Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Some hundred megabytes through a pipe.
const MEMORY_LIMIT: Duration = Duration::from_secs(180);
/// Bytes a second.
const MEMORY_BANDWIDTH: u64 = 8 << 30;
const POLL: Duration = Duration::from_millis(20);

/// A machine that was stopped, see [`Machine::freeze`].
#[derive(Debug, Clone)]
pub struct Frozen {
    /// The file with its memory and the state of its devices.
    pub memory: PathBuf,
    /// What its console had said.
    pub console: String,
}

impl Machine {
    /// Stops the guest for good and writes its memory and the state of its devices to a file. All that it has written
    /// is on its disk then, of which a copy goes with that file.
    ///
    /// # Errors
    /// QEMU's own words.
    pub fn freeze(&mut self, memory: &Path) -> Result<()> {
        self.qmp().execute("stop", &json!({}))?;
        // Its default is that of a network that others use, too.
        self.qmp().execute("migrate-set-parameters", &json!({"max-bandwidth": MEMORY_BANDWIDTH}))?;
        self.qmp().execute("migrate", &json!({"uri": format!("exec:cat > {}", quoted(memory))}))?;
        self.until("query-migrate", "completed", &["active", "setup", "device", "pre-switchover"])
    }

    /// Waits until it is as it was when it was stopped, and lets it go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.until("query-status", "paused", &["inmigrate"])?;
        self.qmp().execute("cont", &json!({})).map(drop)
    }

    /// Waits until QEMU's answer to `query` has the status `wanted`, by way of those in `between`.
    fn until(&mut self, query: &str, wanted: &str, between: &[&str]) -> Result<()> {
        let deadline = Instant::now() + MEMORY_LIMIT;
        loop {
            let answer = self.qmp().execute(query, &json!({}))?;
            let status = answer["status"].as_str().unwrap_or_default();
            if status == wanted {
                return Ok(());
            }
            let is_on_the_way = status.is_empty() || between.contains(&status);
            ensure!(
                is_on_the_way && Instant::now() < deadline,
                "{query}: {answer}\n{}",
                self.console.tail(5)
            );
            thread::sleep(POLL);
        }
    }
}

/// A path in a shell's command line.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}
