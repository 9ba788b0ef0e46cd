//! Configs that cannot be used: the console names source, place and remedy, the next source is tried, the node stays
//! up, and nothing that was stored is lost.
//!
//! One boot has room for two bad sources (inline and `podium.config=`), and STATE behind them.

use super::support::{BOOT_LIMIT, HELLO, POWER_OFF_LIMIT, boot, config, extra, hello, on_a_new_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::disk::Disk;
use podium_tests::inline;
use podium_tests::markers::READY;
use podium_tests::qemu::{ExtraDisk, Machine};

/// The node goes on with what the image brings.
const FALLBACK: &str = "podium: config from image default: 1 pod";

/// Every one of `parts` is on one line that tells what is wrong with `source`.
fn told(machine: &Machine, source: &str, parts: &[&str]) -> Result<()> {
    let start = format!("podium: config from {source}: ");
    let what = format!("{start}… {parts:?}");
    let found = machine.console.wait_for(0, &what, BOOT_LIMIT, |line| {
        line.text.starts_with(&start) && parts.iter().all(|part| line.text.contains(part))
    });
    found.map(drop)
}

const INLINE: &str = "kernel command line (inline)";

/// Boots with a bad inline config and a bad one on a disk; both are told, and the demo runs.
fn both_are_told(inline: &str, inline_parts: &[&str], file: &[u8], file_parts: &[&str]) -> Result<()> {
    on_a_new_disk(|disk| {
        let config = Disk::with_files("CFG", &[("bad.yaml", file)])?;
        let words = [inline.to_owned(), "podium.config=LABEL=CFG:/bad.yaml".to_owned()];
        let machine = boot(disk, &words, &[extra(&config)])?;
        machine.wait(FALLBACK, BOOT_LIMIT)?;
        told(&machine, INLINE, inline_parts)?;
        told(&machine, "kernel command line (LABEL=CFG:/bad.yaml)", file_parts)
    })
}

#[test]
fn no_base64_and_no_yaml() -> Result<()> {
    both_are_told("podium.config.inline=!!!", &["base64"], b"{version: v1alpha1\nmachine: [", &["line 2"])
}

#[test]
fn binary_and_fifty_megabytes() -> Result<()> {
    let binary: Vec<u8> = (0..=255).collect();
    let large = b"# nothing\n".repeat(5_000_000);
    both_are_told(&inline::plain(&binary), &["binary data"], &large, &["larger than 4 MiB"])
}

#[test]
fn a_bomb_of_aliases_and_a_bomb_of_gzip() -> Result<()> {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let one = format!("*a{}", level - 1);
        aliases += &format!("a{level}: &a{level} [{}]\n", [one.as_str(); 10].join(", "));
    }
    // 50 MB that pack to 50 KB.
    let bomb = inline::gzipped(&b"# nothing\n".repeat(5_000_000))?;
    both_are_told(&inline::gzip(aliases.as_bytes())?, &["alias"], &bomb, &["4 MiB"])
}

#[test]
fn a_wrong_version_and_a_key_given_twice() -> Result<()> {
    let twice = b"version: v1alpha1\nmachine:\n  sysctls: {}\n  sysctls: {}\n";
    both_are_told(&inline::plain(b"version: v9\n"), &["version", "v1alpha1"], twice, &["line 4", "sysctls"])
}

#[test]
fn tabs_and_an_unknown_key() -> Result<()> {
    let tabs = inline::plain(b"version: v1alpha1\nmachine:\n\tpods: []\n");
    both_are_told(
        &tabs,
        &["line 3", "tab"],
        b"version: v1alpha1\nmachine:\n  podz: []\n",
        &["line 3: machine.podz", "pods"],
    )
}

#[test]
fn an_empty_one_and_one_that_is_not_there() -> Result<()> {
    on_a_new_disk(|disk| {
        let words = [inline::plain(b"\n"), "podium.config=LABEL=NOWHERE:/a.yaml".to_owned()];
        let machine = boot(disk, &words, &[])?;
        machine.wait(FALLBACK, BOOT_LIMIT)?;
        told(&machine, INLINE, &["empty"])?;
        told(
            &machine,
            "kernel command line (LABEL=NOWHERE:/a.yaml)",
            &["no partition has the label NOWHERE", "ROOT-A"],
        )
    })
}

/// The disk with the config is worn out, and so is what STATE holds. The whole node still comes up and goes down.
#[test]
fn an_unreadable_disk_and_a_damaged_state() -> Result<()> {
    on_a_new_disk(|disk| {
        let given = config(&[HELLO]);
        let mut machine = boot(disk, &[inline::plain(given.as_bytes())], &[])?;
        machine.wait("podium: config from kernel command line (inline): kept in STATE", BOOT_LIMIT)?;
        machine.wait(READY, BOOT_LIMIT)?;
        machine.power_off(POWER_OFF_LIMIT)?;
        let state = disk.partition("STATE")?;
        let stored = state.read("/config.yaml")?;
        ensure!(
            stored.starts_with(b"# podium: generation=1 ") && stored.ends_with(given.as_bytes()),
            "STATE holds something else: {}",
            String::from_utf8_lossy(&stored)
        );
        let damaged = String::from_utf8(stored)?.replace("machine:", "machin\u{e4}:");
        state.replace("/config.yaml", damaged.as_bytes())?;

        let worn_out = Disk::with_files("CFG", &[("a.yaml", b"version: v1alpha1\n")])?;
        let worn_out = ExtraDisk { path: worn_out.path().to_owned(), unreadable: true };
        let mut machine = boot(disk, &["podium.config=LABEL=CFG:/a.yaml".to_owned()], &[worn_out])?;
        machine.wait(FALLBACK, BOOT_LIMIT)?;
        told(&machine, "kernel command line (LABEL=CFG:/a.yaml)", &["CFG"])?;
        told(&machine, "STATE", &["its checksum does not match"])?;
        told(&machine, "STATE", &["kept for inspection as /system/state/config/rejected-1.yaml"])?;
        machine.wait(READY, BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        machine.power_off(POWER_OFF_LIMIT)?;
        let left =
            disk.partition("STATE")?.read("/config/rejected-1.yaml").context("what was stored is gone")?;
        ensure!(left == damaged.as_bytes(), "what was stored was changed");
        Ok(())
    })
}
