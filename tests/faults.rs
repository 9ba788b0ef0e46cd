//! `cargo xtask test faults`: every fault that is injected, one file an area.
//!
//! A program of its own and no `#[test]`s: its table says for each fault what is expected and what was seen. What a
//! node must do besides, when nothing goes wrong, is in `ns.rs` and `vm.rs`.

#[path = "faults/boot.rs"]
mod boot;
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/config/mod.rs"]
mod config;
#[path = "faults/console.rs"]
mod console;
#[path = "faults/control.rs"]
mod control;
#[path = "faults/directory/mod.rs"]
mod directory;
#[path = "faults/exhausted.rs"]
mod exhausted;
#[path = "faults/hardware.rs"]
mod hardware;
#[path = "faults/kernel.rs"]
mod kernel;
#[path = "faults/keys.rs"]
mod keys;
#[path = "faults/logs.rs"]
mod logs;
#[path = "faults/manifests.rs"]
mod manifests;
#[path = "faults/metadata.rs"]
mod metadata;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/preload.rs"]
mod preload;
#[path = "faults/processes.rs"]
mod processes;
#[path = "faults/resources.rs"]
mod resources;
#[path = "faults/roots.rs"]
mod roots;
#[path = "faults/running.rs"]
mod running;
#[path = "faults/services.rs"]
mod services;
#[path = "faults/shutdown.rs"]
mod shutdown;
#[path = "faults/signals.rs"]
mod signals;
#[path = "faults/support.rs"]
mod support;

use podium_tests::faults::Shared;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Most of what befalls them is waited for; two of them have it over in half of the time.
    let [running, other] = [(); 2].map(|()| Shared::new(running::Node::boot));
    let areas = [
        config::faults(),
        manifests::faults(),
        services::faults(&running),
        exhausted::faults(&running),
        console::faults(&other),
        directory::faults(&other),
        metadata::faults(),
        preload::faults(),
        power::faults(),
        clock::faults(),
        kernel::faults(),
        keys::faults(),
        hardware::faults(),
        processes::faults(),
        signals::faults(),
        resources::faults(),
        logs::faults(),
        boot::faults(),
        roots::faults(),
        control::faults(),
        shutdown::faults(),
    ];
    drop((running, other));
    podium_tests::faults::main(areas.into_iter().flatten().collect())
}
