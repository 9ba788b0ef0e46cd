//! Each place that a config can come from, and what is kept of it.

use super::support::{
    BOOT_LIMIT, POWER_OFF_LIMIT, boot, extra, hand_of, hello, on_a_new_disk, on_a_running_node,
};
use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podium_tests::disk::Disk;
use podium_tests::inline;
use podium_tests::markers::READY;
use podium_tests::qemu::ExtraDisk;
use serde_json::json;

/// `version: v1alpha1` and `machine: {network: {hostname: from-zstd}}`, two lines, as `zstd -19` packs them.
const ZSTD: &str =
    "KLUv/QRo4QEAdmVyc2lvbjogdjFhbHBoYTEKbWFjaGluZToge25ldHdvcms6IHtob3N0bmFtZTogZnJvbS16c3RkfX0KnY6hUw==";

/// Who the node is to a DHCP server.
const DUID: &str = "/var/lib/dhcpcd/duid";

/// Boots until the config was taken from `source`, and kept.
fn taken(words: &[String], disks: &[ExtraDisk], source: &str) -> Result<()> {
    on_a_new_disk(|disk| {
        let machine = boot(disk, words, disks)?;
        let line = machine.wait(&format!("podium: config from {source}: "), BOOT_LIMIT)?.text;
        ensure!(line.ends_with(": 0 pods"), "{line}");
        // Kept for the next boot, so it was taken whole.
        machine.wait(&format!("podium: config from {source}: kept in STATE"), BOOT_LIMIT)?;
        Ok(())
    })
}

fn small(name: &str) -> String {
    format!("version: v1alpha1\nmachine: {{network: {{hostname: {name}}}}}\n")
}

#[test]
fn inline_as_it_is() -> Result<()> {
    taken(&[inline::plain(small("plain").as_bytes())], &[], "kernel command line (inline)")
}

#[test]
fn inline_packed_by_zstd() -> Result<()> {
    ensure!(STANDARD.decode(ZSTD)?.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    taken(&[format!("podium.config.inline={ZSTD}")], &[], "kernel command line (inline)")
}

#[test]
fn a_file_on_a_labelled_disk() -> Result<()> {
    let config = Disk::with_files("CFG", &[("nodes/one.yaml", small("label").as_bytes())])?;
    let word = "podium.config=LABEL=CFG:/nodes/one.yaml".to_owned();
    taken(&[word], &[extra(&config)], "kernel command line (LABEL=CFG:/nodes/one.yaml)")
}

#[test]
fn a_file_on_a_usb_stick() -> Result<()> {
    let config = Disk::with_fat_file("STICK", "one.yaml", small("stick").as_bytes())?;
    let word = "podium.config=LABEL=STICK:/one.yaml".to_owned();
    taken(&[word], &[extra(&config)], "kernel command line (LABEL=STICK:/one.yaml)")
}

#[test]
fn a_path_of_the_image() -> Result<()> {
    on_a_new_disk(|disk| {
        let machine = boot(disk, &["podium.config=/usr/lib/podium/machine.yaml".to_owned()], &[])?;
        machine.wait(
            "podium: config from kernel command line (/usr/lib/podium/machine.yaml): 1 pod",
            BOOT_LIMIT,
        )?;
        Ok(())
    })
}

/// The command line's first; then STATE, which has kept it; then, after a Ctrl-Alt-Del, STATE again. /var is kept too.
#[test]
fn what_was_given_once_is_kept() -> Result<()> {
    on_a_running_node(|disk, mut machine, hand| {
        machine.wait("podium: config from kernel command line (inline): 2 pods", BOOT_LIMIT)?;
        hand.write("/var/kept", "first")?;
        let duid = hand.read(DUID)?;
        ensure!(!duid.trim().is_empty());
        machine.power_off(POWER_OFF_LIMIT)?;
        disk.partition("STATE")?.check_clean()?;
        disk.partition("EPHEMERAL")?.check_clean()?;

        let mut machine = boot(disk, &[], &[])?;
        machine.wait("podium: config from STATE: 2 pods", BOOT_LIMIT)?;
        let hand = hand_of(&machine)?;
        ensure!(hand.read("/var/kept")? == "first", "/var was not kept");
        ensure!(hand.read(DUID)? == duid, "to a DHCP server the node is another one");
        ensure!(hello(&machine)?.contains("hello"));
        let from = machine.console.mark();
        let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
        machine.qmp().execute("send-key", &json!({"keys": keys}))?;
        machine.console.wait(from, "podium: halt: all file systems unmounted", POWER_OFF_LIMIT)?;
        machine.console.wait(from, ", node stage", BOOT_LIMIT)?;
        machine.console.wait(from, READY, BOOT_LIMIT)?;
        Ok(())
    })
}

/// Nothing is given: the image's own config runs the demo.
#[test]
fn the_images_default() -> Result<()> {
    on_a_new_disk(|disk| {
        let mut machine = boot(disk, &[], &[])?;
        machine.wait("podium: config from image default: 1 pod", BOOT_LIMIT)?;
        machine.wait(READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.power_off(POWER_OFF_LIMIT)?;
        for label in ["STATE", "EPHEMERAL"] {
            disk.partition(label)?.check_clean()?;
        }
        Ok(())
    })
}
