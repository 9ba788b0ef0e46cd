//! Placeholder that its owner replaces.
use anyhow::Result;
use podium_init::shutdown::Shutdown;

/// The one way out.
pub(crate) fn finish(_end: Result<Shutdown>) -> ! {
    loop {
        std::thread::park();
    }
}

/// The panic hook of PID 1: report, sync, reboot.
pub(crate) fn panicked(_info: &std::panic::PanicHookInfo<'_>) {}
