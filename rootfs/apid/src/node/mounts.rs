//! What is mounted, and how full it is.

use super::output::Fault;
use crate::places::Places;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The kernel's own list, of the mount namespace that this process is in.
const MOUNTS: &str = "/proc/self/mounts";
/// A node with a thousand pods has some thousand mounts.
const MOUNTS_MAX: u64 = 4 << 20;
/// A server or program behind them may never answer.
const OF_OTHERS: [&str; 6] = ["nfs", "nfs4", "cifs", "fuse", "ceph", "9p"];

/// All of them; the last one of those at one place.
pub(super) fn list(places: &Places) -> Result<Value, Fault> {
    let mut text = Vec::new();
    let file = std::fs::File::open(places.at(MOUNTS)).map_err(|error| Fault::of(MOUNTS, error))?;
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, MOUNTS_MAX), &mut text);
    read.map_err(|error| Fault::of(MOUNTS, error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut mounts = BTreeMap::new();
    for (place, line) in text.lines().enumerate() {
        let mut words = line.split(' ');
        let (Some(source), Some(target), Some(kind)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        mounts.insert(plain(target), (place, plain(source), kind));
    }
    let mut mounts: Vec<_> = mounts.into_iter().collect();
    mounts.sort_by_key(|(_, (place, ..))| *place);
    let rows = mounts.iter().map(|(target, (_, source, kind))| {
        let is_ours = !OF_OTHERS.iter().any(|other| kind.split('.').next() == Some(*other));
        let stat = is_ours.then(|| rustix::fs::statvfs(places.at(target)).ok()).flatten();
        let full = stat.map(|stat| {
            (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize))
        });
        let (size, free) = full.unwrap_or_default();
        json!({"filesystem": source, "mounted_on": target, "size": size, "available": free})
    });
    Ok(json!({"ok": true, "mounts": rows.collect::<Vec<_>>()}))
}

/// The kernel writes blanks and the like as `\040`.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain += before;
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_and_hidden_ones_left_out() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["proc/self", "var", "a b"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let text = "/dev/a /var ext4 rw 0 0\nold /a\\040b tmpfs rw 0 0\nnew /a\\040b tmpfs rw 0 0\nsrv /n nfs4 rw 0 0\n";
        std::fs::write(root.path().join("proc/self/mounts"), text).unwrap();
        let list = list(&Places::below(Some(root.path()))).unwrap();
        let names: Vec<_> =
            list["mounts"].as_array().unwrap().iter().map(|row| row["filesystem"].clone()).collect();
        assert_eq!(names, ["/dev/a", "new", "srv"]);
        assert!(list["mounts"][0]["size"].as_u64() > Some(0));
        assert_eq!(list["mounts"][1]["mounted_on"], "/a b");
        assert_eq!(list["mounts"][2]["size"], 0);
    }
}
