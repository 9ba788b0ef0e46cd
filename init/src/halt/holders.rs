//! Who keeps a file system busy: read from `/proc`, for a line in the boot log.
//!
//! By now everybody was killed, so what is found here hangs in the kernel. Nothing found means that the kernel
//! itself holds it, or a mount of another namespace.

use std::path::Path;

/// More names do not help who reads them on a console.
const MOST: usize = 3;

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
    fn nobody_has_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), "nobody that /proc knows");
    }
}
