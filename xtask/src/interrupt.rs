//! Ctrl-C: counted, so that whoever runs a machine can end it in order, and at once the second time.

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// From its making on, Ctrl-C (and TERM, HUP) no longer ends this process; it is remembered instead.
#[derive(Debug)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over the signals.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn take_over() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self { asked })
    }

    /// Whether it was asked since the last call.
    pub(crate) fn taken(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }
}
