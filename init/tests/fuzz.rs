//! A bounded run of the fuzz targets: the seeds, and some thousand inputs made of them by a seeded generator, the same
//! ones every time. `cargo xtask fuzz` goes on from here, for as long as it is told, guided by coverage.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[expect(unreachable_pub, reason = "it is a module of the fuzz targets' library as well")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;
use targets::TARGETS;

/// Inputs for each target: some seconds in a build without optimisation.
const INPUTS: usize = 2500;

/// The longest input that a mutation makes, so that the time does not grow with the seeds.
const LONGEST: usize = 6000;

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz_folder().join("seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).expect(target).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// xorshift64*: what the inputs are made with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// Words that mean something to one target or another, and bytes that are often mistaken.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\n",
    b"\xff\xfe",
    b": ",
    b"- ",
    b"&a [*a]",
    b"*a",
    b"!!binary ",
    b"{",
    b"}",
    b"9999999999999999999",
    b"-1",
    b".inf",
    b"\xe2\x80\xa8",
    b"~",
    b"\"",
];

/// One or a few changes to a seed.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        let until = (at + random.below(40)).min(input.len());
        match random.below(7) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..until)),
            2 => {
                let part = input[at..until].to_vec();
                let to = random.below(input.len());
                input.splice(to..to, part);
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let part = other[from..(from + random.below(200)).min(other.len())].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| (target.run)(seed));
    (target.run)(b"");
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..INPUTS {
        let input = mutated(&seeds, &mut random);
        // What a failing test prints, so that the input can be kept as a seed.
        let shown = input.escape_ascii().to_string();
        let done = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(done.is_ok(), "{name} fails for b\"{shown}\"");
    }
}

#[test]
fn every_command_line_is_read() {
    run("cmdline");
}

#[test]
fn every_config_has_an_outcome() {
    run("config");
}

#[test]
fn every_pod_is_run_or_told_of() {
    run("pod");
}

#[test]
fn every_control_line_is_a_request_or_refused_in_a_few_words() {
    run("control");
}

#[test]
fn every_log_line_is_read_or_none() {
    run("crilog");
}

#[test]
fn everything_a_machine_says_while_it_boots_is_read() {
    run("boot");
}

/// This file, `targets.rs` and cargo-fuzz's own files speak of the same targets.
#[test]
fn every_target_is_complete() {
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    let own = include_str!("fuzz.rs");
    for target in TARGETS {
        let name = target.name;
        let file = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(
            file.contains(&format!("targets::{name}(input)")),
            "{name}: fuzz_targets/{name}.rs calls another"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}: no [[bin]] in fuzz/Cargo.toml");
        assert!(own.contains(&format!("run(\"{name}\")")), "{name}: no test");
        assert!(!seeds(name).is_empty(), "{name}: no seed");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
