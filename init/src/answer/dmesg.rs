//! The kernel's log as lines: `/dev/kmsg`, a record a read.

use crate::job::Client;
use crate::sys::At;
use crate::sys::poll::{self, For};
use anyhow::Result;
use podium_init::control::{self, Refusal};
use podium_init::kernellog::{self, RECORD_MAX};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;
use std::os::fd::AsFd;

const KERNEL_LOG: &str = "/dev/kmsg";

/// All records that the kernel still has, and with `follow` those to come.
pub(super) fn answer(follow: bool, client: &mut Client) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let log = match rustix::fs::open(KERNEL_LOG, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::PERM) => {
            let why =
                Refusal::new("the kernel's log is not to be had here", "in a container it is the host's");
            return Err(why.into());
        }
        log => log.at("open", KERNEL_LOG)?,
    };
    client.send_line(&control::ok())?;
    let mut buffer = [0; RECORD_MAX];
    loop {
        match rustix::io::read(&log, &mut buffer) {
            Ok(length) => {
                if let Some(record) = buffer.get(..length).and_then(kernellog::parse) {
                    client.send(&json!(record))?;
                }
            }
            // The kernel has overwritten what was next.
            Err(Errno::PIPE) => client.send(&json!({"gap": true}))?,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if follow => {
                let ready = poll::wait(&[(client.as_fd(), For::End), (log.as_fd(), For::Reading)], None)?;
                if ready.first() == Some(&true) {
                    return Ok(());
                }
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => Err(error).at("read", KERNEL_LOG)?,
        }
    }
}
