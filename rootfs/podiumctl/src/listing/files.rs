//! Files of a node: `list` and `usage`, one row a message of a stream.

use super::node_name;
use crate::times;
use podium_wire::machine::{DiskUsageInfo, FileInfo};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// One file: its row (short: name alone; `long`: all there is) and the same as data.
pub fn files(
    asked: &str,
    one: &FileInfo,
    long: bool,
    humanize: bool,
    now: OffsetDateTime,
) -> (Vec<String>, Value) {
    let node = node_name(one.metadata.as_ref(), asked);
    let item = json!({
        "node": node, "name": one.name, "relativeName": one.relative_name, "mode": mode(one.mode), "uid": one.uid,
        "gid": one.gid, "size": one.size, "modified": one.modified, "isDir": one.is_dir, "link": one.link,
    });
    if !long {
        return (vec![node.to_owned(), one.relative_name.clone()], item);
    }
    let size = u64::try_from(one.size).unwrap_or_default();
    let shown = match one.link.as_str() {
        "" => one.relative_name.clone(),
        link => format!("{} -> {link}", one.relative_name),
    };
    let row = vec![
        node.to_owned(),
        mode(one.mode),
        one.uid.to_string(),
        one.gid.to_string(),
        if humanize { times::bytes(size) } else { size.to_string() },
        times::of_file(now, one.modified),
        shown,
    ];
    (row, item)
}

/// One path's usage. With `whole` its row has the whole path: below which of several paths it is, is not seen else.
pub fn disk_usage(asked: &str, one: &DiskUsageInfo, humanize: bool, whole: bool) -> (Vec<String>, Value) {
    let node = node_name(one.metadata.as_ref(), asked);
    let size = u64::try_from(one.size).unwrap_or_default();
    let shown = if humanize { times::bytes(size) } else { size.to_string() };
    let item = json!({"node": node, "name": one.name, "relativeName": one.relative_name, "size": one.size});
    let name = if whole { &one.name } else { &one.relative_name };
    (vec![node.to_owned(), shown, name.clone()], item)
}

/// A mode as Go shows its `os.FileMode`, whose bits the wire has: `drwxr-xr-x`, `Lrwxrwxrwx`, `-rw-r--r--`.
fn mode(bits: u32) -> String {
    const TYPES: [(u32, char); 13] = [
        (31, 'd'),
        (30, 'a'),
        (29, 'l'),
        (28, 'T'),
        (27, 'L'),
        (26, 'D'),
        (25, 'p'),
        (24, 'S'),
        (23, 'u'),
        (22, 'g'),
        (21, 'c'),
        (20, 't'),
        (19, '?'),
    ];
    let mut text: String =
        TYPES.iter().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, letter)| *letter).collect();
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if bits & (1 << (8 - at)) != 0 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        assert_eq!(mode(0o644), "-rw-r--r--");
        assert_eq!(mode(1 << 31 | 0o755), "drwxr-xr-x");
        assert_eq!(mode(1 << 31 | 1 << 20 | 0o777), "dtrwxrwxrwx");
        assert_eq!(mode(1 << 27 | 0o777), "Lrwxrwxrwx");
    }
}
