//! Who keeps a file system busy: read from `/proc`, for a line in the boot log.
//!
//! By now everybody was killed, so what is found here hangs in the kernel. Nothing found means that the kernel
//! itself holds it, or a mount of another namespace.

use std::path::Path;

/// More names do not help who reads them on a console.
const MOST: usize = 3;
/// `PF_KTHREAD` of the kernel's sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Up to three processes that use something below `path`: `312 kubelet, 401 runc`; or `nobody that /proc knows`.
pub(super) fn of(path: &Path) -> String {
    let Ok(entries) = std::fs::read_dir("/proc") else { return "nobody that /proc knows".to_owned() };
    let processes = entries.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok_and(|pid| pid > 1))
    });
    let names: Vec<String> = processes
        .map(|entry| entry.path())
        .filter(|process| holds(process, path))
        .map(|process| name(&process))
        .take(MOST)
        .collect();
    if names.is_empty() { "nobody that /proc knows".to_owned() } else { names.join(", ") }
}

/// Up to three processes that are left, with the state that they are in: `312 kubelet (D in nfs_wait)`.
pub(super) fn left() -> String {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok_and(|pid| pid > 1))
    });
    let described: Vec<String> = processes.filter_map(|entry| describe(&entry.path())).take(MOST).collect();
    if described.is_empty() { "processes that /proc does not show".to_owned() } else { described.join(", ") }
}

/// `None` for a kernel thread, which is not ours to end, and for one that has ended.
fn describe(process: &Path) -> Option<String> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    // After the name, which may hold anything: state, parent, group, session, terminal, its group, flags.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, flags) = (fields.next()?, fields.nth(5)?.parse::<u64>().ok()?);
    if flags & KERNEL_THREAD != 0 || state == "Z" {
        return None;
    }
    let place = std::fs::read_to_string(process.join("wchan")).unwrap_or_default();
    let place =
        if matches!(place.trim(), "" | "0") { String::new() } else { format!(" in {}", place.trim()) };
    Some(format!("{} ({state}{place})", name(process)))
}

/// Whether one of the process's folders, its program or a descriptor lies below `path`.
fn holds(process: &Path, path: &Path) -> bool {
    let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = ["cwd", "root", "exe"].map(|link| process.join(link));
    links
        .into_iter()
        .chain(fds)
        .any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(path)))
}

/// PID and name; a kernel thread or a process that is ending has a name too.
fn name(process: &Path) -> String {
    let comm = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("{} {}", process.file_name().unwrap_or_default().to_string_lossy(), comm.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_open_file_is_found_by_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let ourselves = Path::new("/proc/self");
        assert!(!holds(ourselves, dir.path()));
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        assert!(holds(ourselves, dir.path()));
        drop(file);
        assert!(!holds(ourselves, dir.path()));
    }

    #[test]
    fn a_process_is_told_with_its_state_and_a_kernel_thread_is_not() {
        let told = describe(Path::new("/proc/self")).unwrap();
        assert!(told.contains(" (R") || told.contains(" (S"), "{told}");
        assert_eq!(describe(Path::new("/proc/nobody")), None);
    }

    #[test]
    fn nobody_has_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), "nobody that /proc knows");
    }
}
