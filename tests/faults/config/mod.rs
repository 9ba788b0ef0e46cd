//! Machine configs that nobody meant to write: each is refused with a reason that names the place, or taken for what
//! it is, and the node serves either way.
//!
//! The bad config is given by `podium.config=` or inline, and the image has a good one behind it: what is refused
//! falls back to that one, so the kubelet finds its pod and nothing else. How a config is cut off is tried at every
//! 64th byte on the parsing child alone, and at some places on whole nodes.

mod bombs;
mod cut;
mod packed;
mod running;

use super::support::{HELLO, link, make_fifo, serves, shown, told};
use anyhow::{Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Node, Prepare, Setup};

/// Where a bad config is in the image.
const BAD: &str = "/cfg/bad.yaml";
/// What the console says of it.
const FROM_BAD: &str = "podium: config from kernel command line (/cfg/bad.yaml): ";
/// A pod that is not the one of the image's own config.
const OTHER: &str = "\
version: v1alpha1
machine:
  pods:
    - apiVersion: v1
      kind: Pod
      metadata: {name: other}
      spec: {containers: [{name: other, image: i}]}
";

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let refused = REFUSED.iter().map(|&(name, bytes, parts)| {
        let expected = format!("refused with {parts:?}; the image's config is used, its pod is there");
        Fault::in_namespace("config", name, expected, move || is_refused(&bytes(), parts))
    });
    let taken = TAKEN.iter().map(|&(name, spoil)| {
        let expected = "taken as if it were not so: its pod is there";
        Fault::in_namespace("config", name, expected, move || is_taken(&spoil(OTHER)))
    });
    let places = PLACES.iter().map(|&(name, prepare, parts)| {
        let expected = format!("refused with {parts:?}; the image's config is used, its pod is there");
        Fault::in_namespace("config", name, expected, move || place_is_refused(prepare, parts))
    });
    let mut faults: Vec<Fault> = refused.chain(taken).chain(places).collect();
    faults.extend(bombs::faults());
    faults.extend(packed::faults());
    faults.extend(cut::faults());
    faults.extend(running::faults());
    faults.push(Fault::in_namespace(
        "config",
        "no source has one",
        "told with where to give one; containerd and the kubelet run without pods",
        nowhere,
    ));
    faults.push(Fault::in_namespace(
        "config",
        "every source has a bad one",
        "each is told with its source; containerd and the kubelet run without pods",
        everywhere,
    ));
    faults
}

/// What is done, the config, what the console's line about it holds.
type Refused = (&'static str, fn() -> Vec<u8>, &'static [&'static str]);

const REFUSED: &[Refused] = &[
    ("empty", Vec::new, &["the config is empty", "the smallest is"]),
    ("nothing but comments", || b"# one\n---\n# two\n".to_vec(), &["the config is empty"]),
    ("binary", || (0..=255).collect(), &["line 2", "binary data: byte 0x80"]),
    ("50 MB", || b"# nothing\n".repeat(5_000_000), &["larger than 4 MiB"]),
    ("a key twice", || with("machine: {}\n"), &["line 8: machine: is given twice", "line 2"]),
    ("NUL in it", || with("\0"), &["line 8", "a NUL byte"]),
    ("another control character", || with("# \u{7}\n"), &["line 8", "control character 0x07"]),
    ("Latin-1", || [OTHER.as_bytes(), b"# gr\xfc\xdfe\n"].concat(), &["line 8", "not UTF-8: byte 0xfc"]),
    ("UTF-16", || OTHER.encode_utf16().fold(vec![0xff, 0xfe], two_bytes), &["is UTF-16"]),
    ("tabs", || OTHER.replace("  ", "\t").into(), &["line 3", "tab"]),
    ("another version", || OTHER.replace("v1alpha1", "v9").into(), &["version", "v1alpha1"]),
    ("no mapping", || b"hello\n".to_vec(), &["expected a mapping, found text"]),
    ("a pod", || b"kind: Pod\n".to_vec(), &["line 1", "a document of kind Pod", "machine.pods"]),
    ("two of them in one", || [OTHER, "---\n", OTHER].concat().into(), &["line 9", "a second config"]),
    ("an unknown key", || with("  podz: []\n"), &["line 8: machine.podz: unknown key", "pods"]),
    ("a merge key", || with("  <<: {a: b}\n"), &["line 8", "merge keys are not supported"]),
    ("a bracket left open", || with("  env: {a: b\n"), &["line 9", "not YAML"]),
    (
        "a list where text belongs",
        || with("  network: {hostname: [a]}\n"),
        &["line 8: machine.network.hostname", "list"],
    ),
    ("5,000 unknown keys", || with(&unknown_keys(5_000)), &["more problems"]),
];

/// The good config with something behind it.
fn with(more: &str) -> Vec<u8> {
    format!("{OTHER}{more}").into()
}

fn two_bytes(mut bytes: Vec<u8>, unit: u16) -> Vec<u8> {
    bytes.extend(unit.to_le_bytes());
    bytes
}

fn unknown_keys(count: usize) -> String {
    (0..count).map(|number| format!("  k{number}: 1\n")).collect()
}

/// A good config's text written in another way.
type Written = fn(&str) -> Vec<u8>;

/// What does not matter.
const TAKEN: &[(&str, Written)] = &[
    ("byte order mark", |text| format!("\u{feff}{text}").into()),
    ("CRLF", |text| text.replace('\n', "\r\n").into()),
    ("old Macintosh line ends", |text| text.replace('\n', "\r").into()),
    ("no line end at its end", |text| text.trim_end().into()),
    ("begin and end marks", |text| format!("---\n{text}...\n").into()),
    ("JSON", |_| {
        br#"{"version":"v1alpha1","machine":{"pods":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":
           "other"},"spec":{"containers":[{"name":"other","image":"i"}]}}]}}"#
            .to_vec()
    }),
];

/// What is done, makes what is at the config's place, what the console's line about it holds.
type Place = (&'static str, Prepare, &'static [&'static str]);

/// What the path leads to when it is no file.
const PLACES: &[Place] = &[
    ("missing", |_| Ok(()), &["No such file or directory"]),
    ("a directory", |path| Ok(std::fs::create_dir(path)?), &["is a directory, not a file"]),
    ("a FIFO that nobody writes to", |path| make_fifo(path), &["not a regular file"]),
    ("a device that never ends", |path| link("/dev/zero", path), &["not a regular file"]),
    ("a link to itself", |path| link(BAD, path), &["Too many levels of symbolic links"]),
    (
        "a file that never ends",
        |path| Ok(std::fs::File::create(path)?.set_len(1 << 40)?),
        &["larger than 4 MiB"],
    ),
];

/// The config is refused with a line that holds `parts`, and the image's own is used.
fn is_refused(config: &[u8], parts: &[&str]) -> Result<String> {
    let setup = Setup::default().word("podium.config=/cfg/bad.yaml").file(BAD, config.to_vec());
    falls_back(&setup, FROM_BAD, parts)
}

fn place_is_refused(prepare: Prepare, parts: &[&str]) -> Result<String> {
    // The folder comes with the file beside it.
    let mut setup = Setup::default().word("podium.config=/cfg/bad.yaml").file("/cfg/beside", Vec::new());
    setup.prepare.push((BAD, prepare));
    falls_back(&setup, FROM_BAD, parts)
}

/// A line that begins with `start` and holds `parts` comes, and then the image's config is used.
fn falls_back(setup: &Setup, start: &str, parts: &[&str]) -> Result<String> {
    let node = Node::up(setup)?;
    let line = told(&node, 0, start, parts)?;
    node.console.wait(line.number, "podium: config from image default: 1 pod", LIMIT)?;
    serves(&node, &[HELLO])?;
    Ok(shown(&line))
}

fn is_taken(config: &[u8]) -> Result<String> {
    let setup = Setup::default().word("podium.config=/cfg/bad.yaml").file(BAD, config.to_vec());
    let node = Node::up(&setup)?;
    let line = told(&node, 0, FROM_BAD, &[])?;
    ensure!(line.text.ends_with(": 1 pod"), "{}", shown(&line));
    serves(&node, &["podium-default-other.yaml"])?;
    Ok(shown(&line))
}

/// containerd is there for the first config, and nothing that would start a pod.
fn waits(node: &Node) -> Result<()> {
    node.wait("podium: containerd: up")?;
    let (answer, _) = node.ask(r#"{"version":1,"request":"services"}"#)?;
    ensure!(!answer.to_string().contains("kubelet"), "{answer}");
    Ok(())
}

fn nowhere() -> Result<String> {
    let node = Node::start(&Setup { config: None, ..Setup::default() })?;
    let line = told(&node, 0, "podium: no usable config: ", &["USERDATA", "/system/state/config.yaml"])?;
    waits(&node)?;
    Ok(shown(&line))
}

fn everywhere() -> Result<String> {
    let mut setup = Setup::default().config(b"version: v9\n").file(BAD, b"hello\n".to_vec());
    setup = setup.word("podium.config.inline=%%%").word("podium.config=/cfg/bad.yaml");
    setup.env.insert("USERDATA", "dmVyc2lvbjogdjgK".to_owned());
    let node = Node::start(&setup)?;
    for (source, part) in [
        ("USERDATA", "version"),
        ("kernel command line (inline)", "not base64"),
        ("kernel command line (/cfg/bad.yaml)", "expected a mapping"),
        ("image default", "version"),
    ] {
        told(&node, 0, &format!("podium: config from {source}: "), &[part])?;
    }
    let line = told(&node, 0, "podium: no usable config: ", &["mend what is said above"])?;
    waits(&node)?;
    Ok(shown(&line))
}
