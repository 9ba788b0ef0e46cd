//! A service that says when it began, for `cargo xtask bench peers`: the first thing it does is one write to /dev/kmsg,
//! and the kernel puts the time to it. Then it says READY to whoever wants to hear it, and waits.
//!
//! The same program under every init. As `apid pki`, a step of Podium's, its work is done with that.

use std::io::Write;
use std::os::unix::net::UnixDatagram;

fn main() -> std::io::Result<()> {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    // Without its end the kernel would keep the line from readers until there is another one.
    let line = format!("probe: up {name} {}\n", std::process::id());
    // Where it is not root (Podium's API) it may not, and is no less a service.
    if let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        log.write_all(line.as_bytes())?;
    }
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound()?.send_to(b"READY=1", socket)?;
    }
    if words.next().as_deref() == Some("pki") {
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}
