//! Configs whose packing is damaged, or unpacks to far too much: as files, and as base64 on the command line.

use super::{BAD, FROM_BAD, OTHER, falls_back};
use anyhow::{Context, Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::inline;
use podium_tests::ns::Setup;
use std::io::Write;
use std::process::{Command, Stdio};

/// What is done, makes the packed bytes, what the console's line about it holds.
type Packed = (&'static str, fn() -> Result<Vec<u8>>, &'static [&'static str]);

const PACKED: &[Packed] = &[
    ("gzip cut off", || Ok(cut(gzip(text().as_bytes())?)), &["damaged gzip", "gzip -t"]),
    ("gzip with a bit flipped", || Ok(flipped(gzip(text().as_bytes())?)), &["damaged gzip", "gzip -t"]),
    ("gzip of nothing but its first bytes", || Ok(vec![0x1f, 0x8b]), &["damaged gzip"]),
    ("gzip bomb of 50 MB", || gzip(&vec![b'#'; 50 << 20]), &["larger than 4 MiB"]),
    ("gzip in gzip", || gzip(&gzip(text().as_bytes())?), &["line 1: not UTF-8"]),
    ("zstd cut off", || Ok(cut(zstd(text().as_bytes(), &[])?)), &["damaged zstd", "zstd -t"]),
    ("zstd with a bit flipped", || Ok(flipped(zstd(text().as_bytes(), &[])?)), &["damaged zstd", "zstd -t"]),
    ("zstd bomb of 50 MB", || zstd(&vec![b'#'; 50 << 20], &[]), &["larger than 4 MiB"]),
    (
        "zstd that asks for 2 GB of memory",
        || zstd(&vec![b'#'; 50 << 20], &["--ultra", "--long=31", "--no-content-size"]),
        &["zstd"],
    ),
];

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let fault = |&(name, bytes, parts): &Packed| {
        let expected = format!("refused with {parts:?}; the image's config is used, its pod is there");
        Fault::in_namespace("config", name, expected, move || file_is_refused(bytes()?, parts))
    };
    let words: [(&str, &str, &[&str]); 4] = [
        ("base64 of a damaged gzip", "podium.config.inline=H4sIAAAA", &["damaged gzip"]),
        ("no base64", "podium.config.inline=!!!", &["not base64", "character 1", "base64 -w0"]),
        ("base64 cut off", "podium.config.inline=dmVyc2lvbjogd", &["not base64"]),
        ("base64 of nothing", "podium.config.inline=Cg==", &["the config is empty"]),
    ];
    let words = words.map(|(name, word, parts)| {
        let expected = format!("refused with {parts:?}; the image's config is used, its pod is there");
        Fault::in_namespace("config", name, expected, move || word_is_refused(word, parts))
    });
    PACKED.iter().map(fault).chain(words).collect()
}

fn file_is_refused(packed: Vec<u8>, parts: &[&str]) -> Result<String> {
    let setup = with_zstd().word("podium.config=/cfg/bad.yaml").file(BAD, packed);
    falls_back(&setup, FROM_BAD, parts)
}

fn word_is_refused(word: &str, parts: &[&str]) -> Result<String> {
    falls_back(&with_zstd().word(word), "podium: config from kernel command line (inline): ", parts)
}

/// It undoes gzip, too.
fn with_zstd() -> Setup {
    Setup { programs: vec!["/usr/bin/zstd"], ..Setup::default() }
}

/// Long enough to be packed in more than one block's header.
fn text() -> String {
    format!("{OTHER}# {}\n", (0..500).map(|number| format!("{number} ")).collect::<String>())
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    inline::gzipped(bytes)
}

/// Packs by zstd(1), with a checksum as it does by default.
fn zstd(bytes: &[u8], options: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new("zstd");
    command.args(["-q", "-c"]).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("zstd (Debian's zstd)")?;
    let mut stdin = child.stdin.take().context("no input")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "zstd: {}", output.status);
    writer.join().ok().context("writing to zstd")??;
    Ok(output.stdout)
}
