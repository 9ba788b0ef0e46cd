//! Machine configs in, problems out: every wrong input with its exact message, and the config's reference held
//! against schema and README.
//!
//! `config/bad.txt` holds the cases in text; `PODIUM_BLESS=1 cargo test -p podium-init --test config` writes what is
//! now said into it and into the README. Read the difference before committing it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use podium_init::config::{self, FileOp, KEYS, MAX_PROBLEMS, MAX_TEXT, MachineConfig, Outcome, Severity};
use podium_init::{cmdline, sysctls};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn blessing() -> bool {
    std::env::var_os("PODIUM_BLESS").is_some_and(|value| value == "1")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn told(outcome: &Outcome) -> Vec<String> {
    outcome.problems.iter().map(ToString::to_string).collect()
}

/// The problems of a text, one a line.
fn problems(text: &[u8]) -> Vec<String> {
    told(&config::parse(text))
}

/// Takes a text that must be fine.
fn good(text: &str) -> MachineConfig {
    let outcome = config::parse(text.as_bytes());
    assert_eq!(told(&outcome), [""; 0], "{text}");
    outcome.config.expect("a config without problems is usable")
}

/// Cases are `=== title`, the text, `--- problems`, one problem a line. In a text `→` stands for a tab.
#[test]
fn every_bad_config_is_told_exactly() {
    let golden = file("tests/config/bad.txt");
    let cases = std::fs::read_to_string(&golden).unwrap();
    let mut now = cases.split("=== ").next().unwrap_or_default().to_owned();
    let mut count = 0;
    for case in cases.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, _) = rest.split_once("--- problems\n").unwrap();
        let outcome = config::parse(text.replace('→', "\t").as_bytes());
        assert!(!outcome.problems.is_empty(), "{title}: nothing wrong");
        now += &format!("=== {title}\n{text}--- problems\n");
        for line in told(&outcome) {
            now += &format!("{line}\n");
        }
        let stops = outcome.problems.iter().any(config::Problem::stops_config);
        assert_eq!(outcome.config.is_none(), stops, "{title}");
        now += "\n";
        count += 1;
    }
    assert!(count >= 60, "{count} cases");
    compare(&golden, &cases, &now);
}

#[test]
fn nothing_of_a_secret_is_said_again() {
    let template =
        "version: v1alpha1\nmachine:\n  ca: {crt: VALUE, key: VALUE}\n  acceptedCAs: [{crt: VALUE}, VALUE]\n";
    for value in
        ["hush", "aHVzaA==", "hush\u{1}", "'hush%'", "hush: hush", "[hush]", "'hush", "&a hush *b", "!hush x"]
    {
        let text = template.replace("VALUE", value);
        let outcome = config::parse(text.as_bytes());
        assert_eq!(outcome.config, None, "{text}");
        for line in told(&outcome) {
            assert!(!line.contains("hush") && !line.contains("aHVz"), "{line}");
        }
    }
    let secret = config::Secret("hush".into());
    assert_eq!(format!("{secret:?}"), config::MASK);
}

fn compare(path: &Path, have: &str, now: &str) {
    if have == now {
        return;
    }
    if blessing() {
        std::fs::write(path, now).unwrap();
        return;
    }
    let differs = have.lines().zip(now.lines()).find(|(have, now)| have != now);
    panic!("{}: differs: {differs:#?}; bless it with PODIUM_BLESS=1", path.display());
}

#[test]
fn what_is_no_text_is_told_by_its_line() {
    let remedy = "the config is YAML, saved as UTF-8";
    for (bytes, want) in [
        (&b""[..], "the config is empty; the smallest is: version: v1alpha1, machine: {}".to_owned()),
        (
            b" \n\n# nothing\n---\n",
            "the config is empty; the smallest is: version: v1alpha1, machine: {}".to_owned(),
        ),
        (b"version: v1alpha1\nmachine:\0", format!("line 2: binary data: a NUL byte; {remedy}")),
        (b"a: 1\nb: \x01", format!("line 2: control character 0x01; {remedy}")),
        (b"a: 1\n\nb: \xff\n", format!("line 3: not UTF-8: byte 0xff; {remedy}")),
        (b"\x7fELF\x02\x01\x01\0\0\0\xff", format!("line 1: binary data: byte 0xff; {remedy}")),
        (b"\xff\xfev\0e\0", "the config is UTF-16; save it as UTF-8".to_owned()),
    ] {
        assert_eq!(problems(bytes), [want], "{bytes:?}");
    }
    let large = vec![b' '; MAX_TEXT + 1];
    let want = "the config is 4194305 bytes long, the most is 4194304; keep images and large files out of it";
    assert_eq!(problems(&large), [want]);
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_fine() {
    let plain = "version: v1alpha1\nmachine:\n  network:\n    hostname: a\n";
    let config = good(plain);
    assert_eq!(config.machine.network.hostname.as_deref(), Some("a"));
    assert_eq!(good(&plain.replace('\n', "\r\n")), config);
    assert_eq!(good(&format!("\u{feff}{plain}")), config);
    assert_eq!(good(&format!("---\n{plain}...\n")), config);
}

#[test]
fn scalars_are_taken_as_written() {
    let config = good(
        r#"
version: v1alpha1
machine:
  sysctls: {a.b: 1, a.c: 1.10, a.d: 0644, a.e: yes, a.f: "0755", a.g: true, a.h: 1e3, a.i: 0x10, a.j: '~'}
  network: {interfaces: [{interface: eth0, dhcp: yes}]}
  files:
    - {path: /var/a, permissions: 0o600}
    - {path: /var/b, permissions: 0600}
    - {path: /var/c, permissions: "0600"}
    - {path: /var/d, permissions: 384, op: append}
    - {path: /var/e}
"#,
    );
    let values: Vec<&str> = config.machine.sysctls.values().map(String::as_str).collect();
    assert_eq!(values, ["1", "1.10", "0644", "yes", "0755", "true", "1e3", "0x10", "~"]);
    assert!(config.machine.network.interfaces[0].dhcp);
    let files: Vec<_> = config.machine.files.iter().map(|file| (file.permissions, file.op)).collect();
    let create = FileOp::Create;
    assert_eq!(
        files,
        [(0o600, create), (0o600, create), (0o600, create), (0o600, FileOp::Append), (0o644, create)]
    );
}

#[test]
fn a_spoilt_pod_leaves_the_others_and_the_config() {
    let pod = |name: &str, more: &str| {
        format!(
            "    - apiVersion: v1\n      kind: Pod\n      metadata: {{name: {name}}}\n      spec:\n        {more}\n        \
             containers: [{{name: a, image: a, args: [\"0755\", 'yes', \"1e3\", \"~\"]}}]\n"
        )
    };
    let mode = "volumes: [{name: v, configMap: {name: x, defaultMode: 0644}}]";
    let text = [
        "version: v1alpha1\nmachine:\n  pods:\n".to_owned(),
        pod("good", "hostNetwork: true"),
        pod("twice", "hostNetwork: true\n        hostNetwork: false"),
        pod("merged", "<<: {hostNetwork: true}"),
        pod("misspelt", "hostNetwrok: true"),
        pod("secret", mode),
    ];
    let outcome = config::parse(text.concat().as_bytes());
    assert!(outcome.config.is_some_and(|config| config.machine.pods.is_empty()));
    let ids: Vec<&str> = outcome.manifests.iter().map(|manifest| manifest.id.as_str()).collect();
    assert_eq!(ids, ["default-good"]);
    let written: Value = serde_json::from_str(&outcome.manifests[0].bytes).unwrap();
    assert_eq!(written["spec"]["containers"][0]["args"], json!(["0755", "yes", "1e3", "~"]));
    let mut told = outcome.problems.iter().map(|problem| {
        assert!(problem.line.is_some(), "{problem}");
        problem.pod.as_deref().unwrap_or_default()
    });
    for pod in ["default-twice", "default-merged", "default-misspelt", "default-secret"] {
        assert!(told.any(|named| named == pod), "{pod}");
    }
}

#[test]
fn anchors_and_aliases_work() {
    let config = good(
        "version: v1alpha1\nmachine:\n  sysctls: &same {net.a: 1}\n  sysfs: *same\n  env: {A: &a x, B: *a}\n",
    );
    assert_eq!(config.machine.sysctls, config.machine.sysfs);
    assert_eq!(config.machine.env["B"], "x");
}

#[test]
fn bombs_are_refused() {
    let mut aliases =
        String::from("version: v1alpha1\nmachine:\n  env:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        aliases += &format!("    a{level}: &a{level} [{below}]\n");
    }
    let told = problems(aliases.as_bytes());
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("more than 500,000 values") || told[0].contains("aliases repeat too much"),
        "{told:?}"
    );
    let deep = format!("version: v1alpha1\nmachine: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(problems(deep.as_bytes()), ["line 2: nested deeper than 128 levels"]);
    let unclosed = "[".repeat(10_000);
    assert_eq!(problems(unclosed.as_bytes()).len(), 1);
    let key = format!("version: v1alpha1\nmachine: {{env: {{{}: x}}}}", "k".repeat(2000));
    assert!(problems(key.as_bytes())[0].contains("a key longer than 1,024 bytes"));
}

#[test]
fn a_flood_of_problems_is_counted_not_listed() {
    let mut text = String::from("version: v1alpha1\nmachine:\n");
    for index in 0..MAX_PROBLEMS + 150 {
        text += &format!("  wrong{index}: 1\n");
    }
    let outcome = config::parse(text.as_bytes());
    assert_eq!(outcome.problems.len(), MAX_PROBLEMS + 1);
    let last = outcome.problems.last().unwrap();
    assert_eq!((last.to_string().as_str(), last.severity), ("and 150 more problems", Severity::Error));
    assert_eq!(outcome.config, None);
}

#[test]
fn what_is_copied_into_services_is_bounded() {
    let value = "x".repeat(20 << 10);
    let env = problems(format!("version: v1alpha1\nmachine:\n  env: {{A: {value}}}\n").as_bytes());
    assert!(env.len() == 1 && env[0].contains("machine.env: holds 20483 bytes, more than 16384"), "{env:?}");
    let args = format!("version: v1alpha1\nmachine:\n  kubelet: {{extraArgs: {{v: {value}, w: {value}}}}}\n");
    let args = problems(args.as_bytes());
    assert!(args.len() == 1 && args[0].contains("machine.kubelet.extraArgs: hold 40970 bytes"), "{args:?}");
}

#[test]
fn with_stable_uids_off_a_changed_image_is_a_new_pod() {
    let uid = |image: &str, kubelet: &str| {
        let text = format!(
            "version: v1alpha1\nmachine:\n  kubelet: {{{kubelet}}}\n  pods: [{{apiVersion: v1, kind: Pod, \
             metadata: {{name: a}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}]\n"
        );
        let mut outcome = config::parse(text.as_bytes());
        assert_eq!(told(&outcome), [""; 0], "{text}");
        outcome.manifests.remove(0).uid
    };
    for stable in ["", "stablePodUID: true"] {
        assert_eq!(uid("one", stable), uid("two", stable));
    }
    let off = "stablePodUID: false";
    assert_ne!(uid("one", off), uid("two", off));
    assert_eq!(uid("one", off), uid("one", off));
    assert_ne!(uid("one", off), uid("one", ""));
}

/// Sets a value at a reference path: `[]` is the first item, `<name>` a registry.
fn set(at: &mut Value, path: &str, value: Value) {
    let Some((step, rest)) =
        path.split_once('.').map(|(step, rest)| (step, Some(rest))).or(Some((path, None)))
    else {
        return;
    };
    let (name, in_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let name = if name == "<name>" { "docker.io" } else { name };
    let map = at.as_object_mut().unwrap();
    let mut next = map.entry(name).or_insert(if in_list { json!([{}]) } else { json!({}) });
    if in_list {
        next = next.as_array_mut().unwrap().first_mut().unwrap();
    }
    match rest {
        Some(rest) => set(next, rest, value),
        None => *next = value,
    }
}

/// Every example of the reference in one config, but for the key that excludes another.
fn all_examples() -> Value {
    let mut config = json!({});
    for key in KEYS.iter().filter(|key| !key.example.is_empty()) {
        if key.path != "machine.network.interfaces[].interface" {
            set(&mut config, key.path, serde_yaml::from_str(key.example).unwrap());
        }
    }
    config
}

#[test]
fn all_examples_of_the_reference_are_accepted_together() {
    let text = serde_yaml::to_string(&all_examples()).unwrap();
    let config = good(&text);
    assert_eq!(config.machine.kubelet.extra_args["v"], "2");
    assert_eq!(config.machine.files[0].permissions, 0o600);
    good("version: v1alpha1\nmachine: {network: {interfaces: [{interface: eth0, dhcp: true}]}}");
}

/// Paths of a config as the reference writes them.
fn paths(value: &Value, path: &str, into: &mut Vec<String>) {
    let free = [
        "machine.kubelet.extraArgs",
        "machine.kubelet.extraConfig",
        "machine.kubelet.staticPodURLHeader",
        "machine.sysctls",
        "machine.sysfs",
        "machine.env",
        "machine.pods",
    ];
    if free.contains(&path) {
        return;
    }
    let below = |map: &Map<String, Value>, into: &mut Vec<String>, path: &str| {
        for (key, value) in map {
            let key = if path == "machine.registries.mirrors" { "<name>" } else { key };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            into.push(path.clone());
            paths(value, &path, into);
        }
    };
    match value {
        Value::Object(map) => below(map, into, path),
        Value::Array(items) => {
            for item in items.iter().filter(|item| item.is_object()) {
                paths(item, &format!("{path}[]"), into);
            }
        }
        _ => {}
    }
}

#[test]
fn the_reference_lists_exactly_the_keys_of_the_schema() {
    let mut config = good(&serde_yaml::to_string(&all_examples()).unwrap());
    config.machine.network.interfaces[0].interface = Some("eth0".into());
    let mut schema = vec!["version".to_owned()];
    paths(&serde_json::to_value(&config).unwrap(), "", &mut schema);
    let mut listed: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    schema.sort_unstable();
    listed.sort_unstable();
    assert_eq!(schema, listed);
}

#[test]
fn the_readme_holds_the_references() {
    let readme = file("../README.md");
    let have = std::fs::read_to_string(&readme).unwrap();
    let now = between(&have, "<!-- config reference -->", &config::reference());
    let now = between(&now, "<!-- kernel words -->", &cmdline::reference());
    let now = between(&now, "<!-- sysctls -->", &sysctls::reference());
    compare(&readme, &have, &now);
}

/// The text with what stands between a marker and the next `<!-- end -->` replaced.
fn between(text: &str, marker: &str, block: &str) -> String {
    let (before, rest) = text.split_once(marker).unwrap_or_else(|| panic!("README.md has no {marker}"));
    let (_, after) =
        rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("README.md: {marker} does not end"));
    format!("{before}{marker}\n\n{block}\n<!-- end -->{after}")
}

const SEED: &str = include_str!("config/seed.yaml");

#[test]
fn the_seed_of_the_mutations_is_fine() {
    good(SEED);
}

#[test]
fn a_config_cut_off_anywhere_is_told_or_taken_but_never_fatal() {
    for length in 0..SEED.len() {
        let outcome = config::parse(&SEED.as_bytes()[..length]);
        assert!(outcome.config.is_some() || !outcome.problems.is_empty(), "cut at {length}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        config::parse(&bytes);
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "(\\?|: |- |\n|  |[\\[\\]{},&*!|>'\"#%@`~]|a|b|&a|\\*a|<<|machine|pods|---\n|\t|0644|\r){0,60}") {
        config::parse(text.as_bytes());
    }

    #[test]
    fn no_mutation_makes_it_panic_and_none_is_refused_in_silence(
        edits in proptest::collection::vec((0..SEED.len(), proptest::prelude::any::<u8>(), 0u8..3), 1..6)
    ) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (at, byte, how) in edits {
            let at = at % bytes.len();
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let outcome = config::parse(&bytes);
        let stops = outcome.problems.iter().any(config::Problem::stops_config);
        proptest::prop_assert_eq!(outcome.config.is_none(), stops);
    }
}
