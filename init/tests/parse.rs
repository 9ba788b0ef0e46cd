//! The parsing child as a process: bytes of any kind on stdin, an outcome on stdout, and its limits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use podium_init::config::{Outcome, Severity};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const CONFIG: &str = "version: v1alpha1\nmachine:\n  network: {hostname: node-1}\n";

fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn outcome(encoding: &str, input: &[u8]) -> Outcome {
    let output = run(env!("CARGO_BIN_EXE_init"), &["parse", "--encoding", encoding], input);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn problems(encoding: &str, input: &[u8]) -> Vec<String> {
    let outcome = outcome(encoding, input);
    assert_eq!(outcome.config, None);
    outcome.problems.iter().map(ToString::to_string).collect()
}

fn packed(program: &str, input: &[u8]) -> Vec<u8> {
    let args: &[&str] = if program == "base64" { &["-w76"] } else { &["-c"] };
    run(program, args, input).stdout
}

fn hostname(outcome: &Outcome) -> Option<&str> {
    outcome.config.as_ref()?.machine.network.hostname.as_deref()
}

#[test]
fn every_packing_of_a_config_is_undone() {
    let text = CONFIG.as_bytes();
    for plain in [text.to_vec(), packed("gzip", text), packed("zstd", text)] {
        assert_eq!(hostname(&outcome("plain", &plain)), Some("node-1"));
        assert_eq!(hostname(&outcome("inline", &packed("base64", &plain))), Some("node-1"));
    }
}

#[test]
fn damage_is_told_by_the_layer_it_is_in() {
    let text = CONFIG.repeat(20);
    for program in ["gzip", "zstd"] {
        let mut bytes = packed(program, text.as_bytes());
        bytes.truncate(bytes.len() / 2);
        let told = problems("plain", &bytes);
        assert!(told[0].starts_with(&format!("damaged {program}: ")), "{told:?}");
        assert!(told[0].ends_with(&format!("; test it with: {program} -t")), "{told:?}");
    }
    let told = problems("inline", b"dmVyc2lvbjogdj?");
    assert_eq!(told, ["not base64: character 15 is '?'; make it with: base64 -w0 machine.yaml"]);
}

#[test]
fn bombs_end_at_the_largest_text() {
    let zeros = vec![0; 50 << 20];
    for program in ["gzip", "zstd"] {
        let told = problems("plain", &packed(program, &zeros));
        assert_eq!(told, ["the config is larger than 4 MiB; keep images and large files out of it"]);
    }
    let told = problems("plain", &zeros);
    assert_eq!(told, ["the config is larger than 4 MiB; keep images and large files out of it"]);
}

#[test]
fn what_takes_more_memory_than_a_config_may_ends_the_child_and_nothing_else() {
    // Two million values on few bytes: more than the parser's events fit into the limit.
    let flat = format!("[{}]", "a,".repeat(2_000_000));
    let output = run(env!("CARGO_BIN_EXE_init"), &["parse"], flat.as_bytes());
    let refused =
        serde_json::from_slice::<Outcome>(&output.stdout).is_ok_and(|outcome| outcome.config.is_none());
    assert!(refused || !output.status.success(), "{output:?}");
}

#[test]
fn a_config_of_ten_thousand_files_is_within_the_limits() {
    let mut text = String::from("version: v1alpha1\nmachine:\n  files:\n");
    for index in 0..10_000 {
        text += &format!(
            "    - {{path: /var/lib/f/{index}, permissions: 0o600, content: hello, op: overwrite}}\n"
        );
    }
    let outcome = outcome("plain", text.as_bytes());
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.config.map(|config| config.machine.files.len()), Some(10_000));
}

/// One that has a problem is read twice.
#[test]
fn a_config_of_ten_thousand_pods_with_a_warning_is_within_the_limits() {
    let mut text = String::from("version: v1alpha1\nmachine:\n  pods:\n");
    for index in 0..10_000 {
        text += &format!(
            "    - {{apiVersion: v1, kind: Pod, metadata: {{name: p{index}}}, spec: {{containers: [{{name: c, image: 'i:1'}}]}}}}\n"
        );
    }
    text += "  files: [{path: /var/lib/f, permissions: 644, content: hello, op: overwrite}]\n";
    let outcome = outcome("plain", text.as_bytes());
    assert_eq!(outcome.manifests.len(), 10_000);
    let problems: Vec<_> = outcome.problems.iter().map(|problem| (problem.line, problem.severity)).collect();
    assert_eq!(problems, [(Some(10_004), Severity::Warning)], "{:?}", outcome.problems);
}

#[test]
fn unknown_arguments_are_an_error() {
    for args in [&["parse", "--encoding"][..], &["parse", "--encoding", "x"], &["parse", "file"]] {
        let output = run(env!("CARGO_BIN_EXE_init"), args, b"");
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
    }
}
