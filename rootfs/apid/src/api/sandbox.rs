//! What this process can still do once it listens: read /proc, speak on the sockets it has, and connect to those of
//! the node. Whoever takes it over has no more.
//!
//! Both are the best that the kernel offers: one that lacks landlock or seccomp serves without them, and says so.

use super::procfs;
use crate::places::Places;
use crate::say;
use anyhow::Result;
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// What the newest kernel that is known has; an older one (6.1: files alone) takes its part of it.
const KNOWN: ABI = ABI::V6;

/// System calls that any argument is allowed for, each with who makes it. All others answer EPERM: no program is
/// started, no thread, no port opened, no file written.
const ALLOWED: &[libc::c_long] = &[
    // Clients and the node's sockets.
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    // The loop that waits for all of them, and its wake-ups.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // Clocks, where the kernel answers them by a call; random numbers for TLS.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    // Reading /proc. What may be opened is landlock's to say.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_uname,
    // The allocator. Memory is never made executable: see below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // SIGTERM, and the end: regular, or by a panic.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Enters it; there is no way back.
pub(super) fn enter(places: &Places) {
    procfs::prepare();
    match restrict_files(places) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => {}
        Ok(RulesetStatus::NotEnforced) => say::line("sandbox: this kernel has no landlock"),
        Err(error) => say::line(&format!("sandbox: landlock: {error:#}")),
    }
    if let Err(error) = restrict_calls() {
        say::line(&format!("sandbox: seccomp: {error:#}"));
    }
}

/// Files: /proc is read, nothing is written or run. Ports: none is bound or connected to any more.
fn restrict_files(places: &Places) -> Result<RulesetStatus> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?;
    let mut ruleset = ruleset;
    // In a test there is none below its root.
    if let Ok(proc) = PathFd::new(places.at("/proc")) {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        ruleset = ruleset.add_rule(PathBeneath::new(proc, read))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn restrict_calls() -> Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Sockets to the node's own processes, and none to the network.
    let unix = u64::try_from(libc::AF_UNIX)?;
    rules.insert(libc::SYS_socket, vec![argument(0, SeccompCmpOp::Eq, unix)?]);
    // Memory, but for code.
    let exec = u64::try_from(libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument(2, SeccompCmpOp::MaskedEq(exec), 0)?]);
    }
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

fn argument(place: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(place, SeccompCmpArgLen::Dword, operation, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    const INSIDE: &str = "PODIUM_TEST_SANDBOX";
    const NAME: &str =
        "api::sandbox::tests::whoever_takes_the_process_over_reads_proc_and_speaks_to_the_node_alone";

    /// There is no way back, so a process of its own goes in.
    #[test]
    fn whoever_takes_the_process_over_reads_proc_and_speaks_to_the_node_alone() {
        if let Some(folder) = std::env::var_os(INSIDE) {
            return inside(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "content").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(INSIDE, folder.path());
        let done = command.output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("1 passed") && said.contains("all tried"), "{said}");
    }

    fn inside(folder: &Path) {
        let unix = UnixListener::bind(folder.join("socket")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap();
        let parent = rustix::process::getppid().expect("the test that has started this");
        procfs::prepare();
        let files = restrict_files(&Places::below(None)).unwrap();
        restrict_calls().unwrap();

        std::fs::read_to_string("/proc/loadavg").expect("what it is there for");
        UnixStream::connect(folder.join("socket")).expect("the node's sockets");
        unix.accept().expect("the same");

        let denied = |what: &str, result: std::io::Result<()>| {
            let kind = result.expect_err(what).kind();
            assert_eq!(kind, PermissionDenied, "{what}");
        };
        match files {
            // As it serves there, too.
            RulesetStatus::NotEnforced => eprintln!("no landlock in this kernel: files were not tried"),
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => {
                denied("a file", File::open(folder.join("file")).map(drop));
                denied("the list of a folder", std::fs::read_dir(folder).map(drop));
                denied("a file to write", File::options().append(true).open(folder.join("file")).map(drop));
                denied("a new file", File::create(folder.join("new")).map(drop));
                let writing = File::options().write(true).open("/proc/self/comm");
                denied("a file of /proc to write", writing.map(drop));
            }
        }
        denied("a file that is removed", std::fs::remove_file(folder.join("file")));
        denied("a connection", TcpStream::connect(port).map(drop));
        denied("a port", TcpListener::bind("127.0.0.1:0").map(drop));
        denied("a socket to be found by", UnixListener::bind(folder.join("other")).map(drop));
        denied("a program", Err(Command::new("/proc/self/exe").arg("--list").exec()));
        denied("a process", Command::new("/proc/self/exe").arg("--list").spawn().map(drop));
        denied("a thread", std::thread::Builder::new().spawn(|| ()).map(drop));
        denied("a signal", rustix::process::test_kill_process(parent).map_err(Into::into));
        println!("all tried");
    }
}
