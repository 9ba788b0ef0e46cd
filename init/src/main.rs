//! Podium's PID 1, in both of its stages, and the few other things the same binary is.
//!
//! This file only decides which of them it is, by PID and argv; the table is [`USAGE`]. The binary holds the
//! effects, the library `podium_init` the decisions. As PID 1 nothing here returns: [`pid1`] is one straight line
//! that ends in `halt::finish`, the only way out.

mod answer;
mod apply;
mod boot;
mod child;
mod crashlogs;
mod ctl;
mod devices;
mod disks;
mod halt;
mod hook;
mod initramfs;
mod job;
mod kmsg;
mod load;
mod logger;
mod manifest_dir;
mod modprobe;
mod network;
mod parse;
mod pods;
mod preload;
mod prepare;
mod reactor;
mod repair;
mod stored;
mod sys;
mod token;
mod wait;
mod watch;

use anyhow::{Result, bail};
use podium_init::shutdown::{LastActs, Shutdown};
use std::io::Write;
use std::process::ExitCode;

/// What `init` says of itself when it is run by hand.
const USAGE: &str = "\
init: PID 1 of Podium. It is started by the kernel, or as the first process of a container.

as PID 1      named /init: initramfs stage; else: node stage
as modprobe   modprobe [-q] [--] MODULE [NAME=VALUE ...]: the kernel's module loader
as dhcp-hook  what dhcpcd runs when a lease changes

init exec SERVICE   become a service: cgroup, limits, what it keeps on disk, then its program
init parse          check the machine config on stdin, print the outcome as JSON
init apply ASK      change the config of the running node
init wait           wait for what holds a static pod back: a pod that is ending, a mount
init log            write the services' output below /var/log/podium
init devices        load drivers for devices that appear, watch the power button
init crash-logs     move what the kernel has kept of a crash to the disk
init preload        import the image's OCI archives that containerd does not hold yet
init pods           tell PID 1 which static pods run
init answer LINE    answer a request of the control socket, for PID 1
init ctl COMMAND    ask this node: services, logs, events, pods, config, reboot, ...; `init ctl help`
";

/// Exit code of `init exec` when the service could not be executed; shells and env(1) use 125 likewise.
const EXEC_FAILED: u8 = 125;

fn main() -> ExitCode {
    sys::process::without_backtraces();
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let program = args.first().map_or("init", String::as_str);
    if std::process::id() == 1 {
        sys::process::close_inherited();
        std::panic::set_hook(Box::new(halt::panicked));
        match program {
            "/init" => halt::finish(initramfs::stage()),
            _ => halt::finish(pid1(args.get(1..).unwrap_or_default())),
        }
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    let (verb, rest) = match name {
        "modprobe" | "dhcp-hook" => (name, args.get(1..)),
        _ => (args.get(1).map_or("", String::as_str), args.get(2..)),
    };
    match run(verb, rest.unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = format!("{error:#}");
            // `modprobe -q` fails without words.
            if !words.is_empty() {
                // Nobody is left to tell when stderr is closed.
                drop(writeln!(std::io::stderr(), "podium: {verb}: {words}"));
            }
            ExitCode::from(if verb == "exec" { EXEC_FAILED } else { 1 })
        }
    }
}

/// The node stage: cmdline -> mounts -> config -> prepare -> reactor. Its end is always a shutdown.
fn pid1(args: &[String]) -> Result<(Shutdown, LastActs)> {
    let (cmdline, container) = boot::begin(args);
    // Only the loop's own data outlives this: a config with its pods may be some MiB.
    let ready = {
        let machine = boot::mount(container);
        let loaded = load::config(&cmdline, &machine);
        prepare::prepare(&machine, &loaded)
    };
    let watchdog = cmdline.watchdog.clone().setting(container);
    drop(cmdline);
    sys::heap::trim();
    reactor::run(ready, watchdog)
}

/// Everything but PID 1.
fn run(verb: &str, args: &[String]) -> Result<()> {
    sys::process::become_killable();
    match verb {
        "exec" => child::exec(args),
        "parse" => parse::run(args),
        "apply" => apply::run(args),
        "unblock" => apply::unblock(args),
        "wait" => wait::run(args),
        "log" => logger::run(args),
        "devices" => devices::run(args),
        "crash-logs" => crashlogs::run(args),
        "preload" => preload::run(args),
        "pods" => pods::run(args),
        "answer" => answer::run(args),
        "ctl" => ctl::run(args),
        "halt" => halt::act(args),
        "modprobe" => modprobe::run(args),
        "dhcp-hook" => hook::run(args),
        "" | "help" | "--help" | "-h" => Ok(std::io::stdout().write_all(USAGE.as_bytes())?),
        _ => bail!("unknown verb; `init help` lists them"),
    }
}
