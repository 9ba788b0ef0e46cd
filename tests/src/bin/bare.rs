//! The least that a PID 1 can be, for `cargo xtask bench peers`: it starts two services, reaps whoever ends, and starts
//! them again. What an init takes more than this is the price of what it does more.

use rustix::process::{WaitOptions, wait};
use std::io;
use std::process::Command;

const SERVICES: [&str; 2] = ["/sbin/probe", "/sbin/gauge"];

fn main() -> io::Result<()> {
    let start =
        |program: &str| Command::new(program).spawn().map(|child| i32::try_from(child.id()).unwrap_or(0));
    let mut pids = [0; 2];
    loop {
        for (pid, program) in pids.iter_mut().zip(SERVICES) {
            if *pid == 0 {
                *pid = start(program)?;
            }
        }
        if let Some((ended, _)) = wait(WaitOptions::empty())? {
            let ended = ended.as_raw_nonzero().get();
            pids.iter_mut().filter(|pid| **pid == ended).for_each(|pid| *pid = 0);
        }
    }
}
