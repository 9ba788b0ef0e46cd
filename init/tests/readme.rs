//! The README's table of mounts is that of the code: a test of a running node holds the node against the table.

use podium_init::config::MachineConfig;
use podium_init::mounts::{DATA_FLAGS, EARLY, Mount, STATE_FLAGS, What, plan};
use podium_init::paths;
use rustix::mount::MountFlags;
use std::collections::BTreeMap;

/// Only a machine with EFI has it; the text below the table tells of it.
const WITH_EFI: &str = "/sys/firmware/efi/efivars";

/// As /proc/self/mountinfo has them; a mount without a word about access times has `relatime`.
fn words(flags: MountFlags) -> String {
    let named = [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
    ];
    let mut words = vec![if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" }];
    words.extend(named.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word));
    if !flags.contains(MountFlags::NOATIME) {
        words.push("relatime");
    }
    words.join(",")
}

fn kind(mount: &Mount) -> String {
    match &mount.what {
        What::FileSystem { kind, .. } => kind.to_string(),
        What::Overlay { .. } => "overlay".to_owned(),
        What::Bind { .. } => "bind".to_owned(),
    }
}

#[test]
fn every_mount_of_the_code_is_in_the_readme_and_no_other() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, rest) = text.split_once("<!-- mounts -->").unwrap();
    let (table, after) = rest.split_once("<!-- end -->").unwrap();
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(cells);
    let told: BTreeMap<String, (String, String)> =
        rows.map(|row| (row[1].clone(), (row[2].clone(), row[3].clone()))).collect();

    let all = EARLY.iter().cloned().chain(plan(&MachineConfig::default()));
    let made = all.map(|mount| (mount.target.to_string(), (kind(&mount), words(mount.flags))));
    let disks = [
        ("/", "erofs", "ro,nosuid,nodev,relatime".to_owned()),
        (paths::STATE, "ext4", words(STATE_FLAGS)),
        ("/var", "ext4", words(DATA_FLAGS)),
    ];
    let disks = disks.map(|(path, kind, flags)| (path.to_owned(), (kind.to_owned(), flags)));
    let mut wanted: BTreeMap<String, (String, String)> = made.chain(disks).collect();
    assert!(wanted.remove(WITH_EFI).is_some() && after.contains(WITH_EFI));
    assert_eq!(told, wanted);
}
