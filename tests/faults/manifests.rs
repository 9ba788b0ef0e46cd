//! Pods that collide, and what others have put into the manifest directory before the kubelet starts.

use super::support::{HELLO, link, make_fifo, serves, shown, told};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::Fault;
use podium_tests::ns::{Node, Prepare, Setup};
use std::path::Path;

const FOLDER: &str = "/etc/kubernetes/manifests";
const FROM_IMAGE: &str = "podium: config from image default: ";

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let collisions = COLLISIONS.iter().map(|&(name, one, other, parts)| {
        let expected = format!("told with {parts:?}; neither runs, a third pod does");
        Fault::in_namespace("manifests", name, expected, move || collide(one, other, parts))
    });
    let moved = MOVED.iter().map(|&(name, path, what, make)| {
        let expected = format!(
            "told as a {what} that can hang the kubelet and moved out of its sight; the pod is there"
        );
        Fault::in_namespace("manifests", name, expected, move || is_moved(path, what, make))
    });
    let left = LEFT.iter().map(|&(name, path, make)| {
        let expected = "told as not Podium's, and left alone with every byte; the config's pod is there";
        Fault::in_namespace("manifests", name, expected, move || is_left(path, make))
    });
    let mut faults: Vec<Fault> = collisions.chain(moved).chain(left).collect();
    faults.push(Fault::in_namespace(
        "manifests",
        "a directory, a FIFO and a link where ours belong",
        "each makes room for the manifest of that name",
        ours_is_taken,
    ));
    faults.push(Fault::in_namespace(
        "manifests",
        "what an interrupted write and an older config left",
        "gone before the kubelet starts",
        left_overs,
    ));
    faults
}

/// Two pods (namespace and name), and what is told of them.
type Collision =
    (&'static str, (&'static str, &'static str), (&'static str, &'static str), &'static [&'static str]);

const COLLISIONS: &[Collision] = &[
    (
        "the same name twice",
        ("default", "a"),
        ("default", "a"),
        &["pods[0] and pods[1] both have the ID default-a", "another name or namespace"],
    ),
    (
        "two names with one ID",
        ("a-b", "c"),
        ("a", "b-c"),
        &["pods[0] and pods[1] both have the ID a-b-c", "another name or namespace"],
    ),
];

fn collide(one: (&str, &str), other: (&str, &str), parts: &[&str]) -> Result<String> {
    let pods = [one, other, ("default", "third")].map(|(namespace, name)| {
        format!(
            "    - {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{containers: [{{name: x, image: i}}]}}}}\n"
        )
    });
    let config = format!("version: v1alpha1\nmachine:\n  pods:\n{}", pods.concat());
    let node = Node::up(&Setup::default().config(config.as_bytes()))?;
    let line = told(&node, 0, FROM_IMAGE, parts)?;
    told(&node, 0, FROM_IMAGE, &["1 pod"])?;
    serves(&node, &["podium-default-third.yaml"])?;
    Ok(shown(&line))
}

/// What is there, where, what the console calls it, and how it gets there.
const MOVED: &[(&str, &str, &str, Prepare)] = &[
    ("a FIFO before the start", "/etc/kubernetes/manifests/pipe", "FIFO", make_fifo),
    ("a FIFO named as a manifest", "/etc/kubernetes/manifests/web.yaml", "FIFO", make_fifo),
    ("a directory before the start", "/etc/kubernetes/manifests/more", "directory", |path| {
        std::fs::create_dir(path)?;
        Ok(std::fs::write(path.join("pod.yaml"), POD)?)
    }),
    ("a symbolic link before the start", "/etc/kubernetes/manifests/link.yaml", "symbolic link", |path| {
        link("/proc/self/environ", path)
    }),
    ("a link that leads nowhere", "/etc/kubernetes/manifests/dangling", "symbolic link", |path| {
        link("/no/such", path)
    }),
    ("a socket before the start", "/etc/kubernetes/manifests/socket", "socket", |path| {
        std::os::unix::net::UnixListener::bind(path)?;
        Ok(())
    }),
];

/// The manifest directory is a volume of the container, and something of somebody else's is in it.
fn with_foreign(path: &'static str, make: Prepare) -> Setup {
    let mut setup = Setup { volumes: vec![FOLDER], ..Setup::default() };
    setup.prepare.push((path, make));
    setup
}

fn is_moved(path: &'static str, what: &str, make: Prepare) -> Result<String> {
    let node = Node::up(&with_foreign(path, make))?;
    let line = told(&node, 0, &format!("podium: {path}: a {what} can hang the kubelet; moved to "), &[])?;
    let to = line.text.rsplit_once("; moved to ").context("no place")?.1;
    ensure!(node.path(to).symlink_metadata().is_ok(), "{to} is not there: it was lost");
    ensure!(node.path(path).symlink_metadata().is_err(), "{path} is still there");
    let name = Path::new(to).file_name().context("no name")?.to_string_lossy();
    ensure!(!to.starts_with(FOLDER) || name.starts_with('.'), "the kubelet still sees {to}");
    serves(&node, &[HELLO])?;
    Ok(shown(&line))
}

/// Some pod.
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: theirs}
spec: {containers: [{name: theirs, image: i}]}
";

/// What is there, where, and how it gets there.
const LEFT: &[(&str, &str, Prepare)] = &[
    ("a README that parses as a pod", "/etc/kubernetes/manifests/README.md", |path| {
        Ok(std::fs::write(path, POD)?)
    }),
    ("a .bak of somebody's pod", "/etc/kubernetes/manifests/theirs.yaml.bak", |path| {
        Ok(std::fs::write(path, POD)?)
    }),
    ("garbage", "/etc/kubernetes/manifests/garbage.yaml", |path| Ok(std::fs::write(path, [0xff, 0, 1])?)),
    ("a file of 11 MB", "/etc/kubernetes/manifests/large.yaml", |path| {
        Ok(std::fs::write(path, vec![b'#'; 11 << 20])?)
    }),
];

fn is_left(path: &'static str, make: Prepare) -> Result<String> {
    let node = Node::up(&with_foreign(path, make))?;
    let name = Path::new(path).file_name().context("no name")?.to_string_lossy().into_owned();
    let line = told(&node, 0, &format!("podium: {FOLDER}: not Podium's, left alone: "), &[&name])?;
    let have = std::fs::read(node.path(path))?;
    let made = tempfile::NamedTempFile::new()?;
    make(made.path())?;
    ensure!(have == std::fs::read(made.path())?, "{path} was changed");
    let mut names = [HELLO, &name];
    names.sort_unstable();
    serves(&node, &names)?;
    Ok(shown(&line))
}

fn ours_is_taken() -> Result<String> {
    let mut setup = Setup { volumes: vec![FOLDER], ..Setup::default() }.config(THREE.as_bytes());
    setup.prepare = vec![
        ("/etc/kubernetes/manifests/podium-default-a.yaml", |path| {
            std::fs::create_dir(path)?;
            Ok(std::fs::write(path.join("x"), "")?)
        }),
        ("/etc/kubernetes/manifests/podium-default-b.yaml", make_fifo),
        ("/etc/kubernetes/manifests/podium-default-c.yaml", |path| link("/usr/lib/podium/image.json", path)),
    ];
    let node = Node::up(&setup)?;
    let names = ["podium-default-a.yaml", "podium-default-b.yaml", "podium-default-c.yaml"];
    let lines = names.map(|name| told(&node, 0, &format!("podium: {FOLDER}/{name}: a "), &["moved to"]));
    let lines = lines.into_iter().collect::<Result<Vec<Line>>>()?;
    for (name, text) in node.nth_start("kubelet", 1)?.manifests {
        ensure!(text.contains("\"kind\": \"Pod\""), "{name}: {text}");
    }
    serves(&node, &names)?;
    Ok(shown(&lines[0]))
}

const THREE: &str = "\
version: v1alpha1
machine:
  pods:
    - {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: x, image: i}]}}
    - {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: x, image: i}]}}
    - {apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {containers: [{name: x, image: i}]}}
";

fn left_overs() -> Result<String> {
    let mut setup = Setup { volumes: vec![FOLDER], ..Setup::default() };
    setup.prepare = vec![
        ("/etc/kubernetes/manifests/podium-default-gone.yaml", |path| Ok(std::fs::write(path, POD)?)),
        ("/etc/kubernetes/manifests/.podium-default-hello.yaml.podium-new", |path| {
            Ok(std::fs::write(path, "{")?)
        }),
    ];
    let node = Node::up(&setup)?;
    serves(&node, &[HELLO])?;
    Ok(format!("the kubelet finds {HELLO} alone"))
}
