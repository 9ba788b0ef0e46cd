//! The real program: how it ends, and that it reaps.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAUSE: &str = env!("CARGO_BIN_EXE_pause");

/// Asks until the answer is yes; a quarter of a minute is for a machine under heavy load.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within 15 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// The number of rt_sigtimedwait on x86-64, in which it waits.
const SIGNAL_WAIT: &str = "128 ";

/// Started, and waiting for signals: one sent before would end it by its default action.
fn started(command: &mut Command) -> Child {
    let child = command.spawn().unwrap();
    let call = format!("/proc/{}/syscall", child.id());
    wait_for("pause waits for signals", || std::fs::read_to_string(&call).unwrap().starts_with(SIGNAL_WAIT));
    child
}

#[test]
fn it_ends_with_code_0_on_term_and_int() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = started(&mut Command::new(PAUSE));
        kill(pid(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn it_reaps_children_that_it_did_not_start() {
    let script = format!("sleep 0.2 & sleep 0.3 & exec {PAUSE}");
    let mut child = started(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()));
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    wait_for("both children are gone", || std::fs::read_to_string(&children).unwrap().trim().is_empty());
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    kill(pid(&child), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn it_tells_its_version() {
    let said = Command::new(PAUSE).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("pause {}\n", env!("CARGO_PKG_VERSION")));
}
