//! Which file systems are unmounted at the end, and in which order: text of `/proc/self/mountinfo` in, a list out.
//!
//! Left alone is what the last acts themselves need (`/`, `/proc`, `/sys`, `/dev`, `/run`) and what is below the
//! kernel's own trees: none of it holds data. What is mounted below `/run` is unmounted, because containers'
//! overlays there keep `/var` busy.

use std::collections::BTreeSet;

/// The longest list: a node runs some hundred pods with some mounts each.
pub const MOST: usize = 10_000;

/// One file system to unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is mounted.
    pub path: String,
    /// The file system's device number, as text: mounts of one file system have the same.
    pub device: String,
    /// It is on a block device, so that unwritten data can be lost.
    pub on_disk: bool,
    /// The kind of file system and its source, for people: `fuse.sshfs of host:/folder`.
    pub what: String,
}

/// The mounts to undo, latest first: what was mounted over or below another is undone before it.
pub fn plan(mountinfo: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = mountinfo.lines().rev().filter_map(target).take(MOST).collect();
    // A mount that was moved or made beside its parent may stand in the wrong place; the deeper path goes first.
    // The sort is stable: among equals the latest stays first.
    targets.sort_by_key(|target| std::cmp::Reverse(depth(&target.path)));
    targets
}

/// Of mounts that cannot be undone those that stand for a file system of a disk: one each, for it is the file system
/// that must not lose what was written.
pub fn to_save(stuck: &[Target]) -> Vec<&Target> {
    let mut seen = BTreeSet::new();
    stuck.iter().filter(|target| target.on_disk && seen.insert(target.device.as_str())).collect()
}

/// One line: `36 35 98:0 /root /mount rw,noatime shared:1 - ext4 /dev/vda4 rw`.
fn target(line: &str) -> Option<Target> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    let path = unescape(fields.nth(1)?);
    let mut words = file_system.split(' ');
    let (kind, source) = (words.next()?, words.next()?);
    let on_disk = source.starts_with("/dev/");
    let what = format!("{kind} of {}", unescape(source));
    let needed = ["/", "/run", "/proc", "/sys", "/dev"].contains(&path.as_str());
    let kernels = ["/proc/", "/sys/", "/dev/"].iter().any(|tree| path.starts_with(tree));
    (!needed && !kernels).then_some(Target { path, device, on_disk, what })
}

/// The kernel writes blank, tab, line feed and backslash as `\` and three octal digits.
fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(octal);
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "\
21 1 253:2 / / ro,relatime - erofs /dev/vda2 ro
22 21 0:20 / /proc rw,nosuid - proc proc rw
23 21 0:21 / /sys rw,nosuid - sysfs sysfs rw
24 23 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
25 21 0:5 / /dev rw - devtmpfs devtmpfs rw
26 25 0:23 / /dev/shm rw - tmpfs tmpfs rw
27 21 0:24 / /run rw,nosuid - tmpfs tmpfs rw
28 21 253:4 / /var rw,nosuid shared:1 - ext4 /dev/vda5 rw
29 21 0:30 / /etc/cni rw - overlay overlay rw,upperdir=/var/system/overlays/cni
30 27 0:31 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs rw - overlay overlay rw
31 28 0:32 / /var/lib/kubelet/pods/1/volumes/a\\040b rw - tmpfs tmpfs rw
32 21 253:3 / /system/state rw - ext4 /dev/vda4 rw
";

    fn paths(text: &str) -> Vec<String> {
        plan(text).into_iter().map(|target| target.path).collect()
    }

    #[test]
    fn the_deepest_and_latest_goes_first_and_what_is_needed_stays() {
        assert_eq!(
            paths(NODE),
            [
                "/var/lib/kubelet/pods/1/volumes/a b",
                "/run/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs",
                "/system/state",
                "/etc/cni",
                "/var"
            ]
        );
    }

    #[test]
    fn only_a_disk_can_lose_data() {
        let on_disk: Vec<_> = plan(NODE).into_iter().filter(|target| target.on_disk).collect();
        assert_eq!(
            on_disk.iter().map(|target| target.path.as_str()).collect::<Vec<_>>(),
            ["/system/state", "/var"]
        );
    }

    #[test]
    fn what_is_mounted_is_told_for_people() {
        assert_eq!(plan("1 0 0:1 / /a rw - fuse.x a\\040b rw\n")[0].what, "fuse.x of a b");
    }

    #[test]
    fn a_file_system_is_saved_once_however_often_it_is_mounted() {
        let stuck = plan(
            "1 0 8:1 / /var rw - ext4 /dev/a rw\n2 1 8:1 /x /var/x rw - ext4 /dev/a rw\n3 1 8:2 / /b rw - ext4 /dev/b rw\n4 1 0:9 / /t rw - tmpfs t rw\n",
        );
        let saved: Vec<_> = to_save(&stuck).into_iter().map(|target| target.device.as_str()).collect();
        assert_eq!(saved, ["8:1", "8:2"]);
    }

    #[test]
    fn two_mounts_on_one_path_are_both_undone() {
        assert_eq!(paths("1 0 0:1 / /a rw - tmpfs one rw\n2 1 0:2 / /a rw - tmpfs two rw\n"), ["/a", "/a"]);
    }

    #[test]
    fn every_escape_is_undone_and_a_lone_backslash_stays() {
        assert_eq!(unescape(r"/a\040b\011c\012d\134e"), "/a b\tc\nd\\e");
        assert_eq!(unescape(r"/a\9\04"), r"/a\9\04");
    }

    #[test]
    fn garbage_is_passed_over() {
        assert_eq!(paths("\n-\n - \n1 2 3\nx - y\n1 2 3 4 /a rw -\n"), [""; 0]);
    }
}
