//! What the network API must be: closed, open to anybody for a first config, or open to whom the config's CAs know.
//!
//! Read from the config in use, whose keys are looked up in its JSON one by one. A config that cannot be read closes
//! the port: it must never look like a node that never had one and takes it from anybody.

use super::addresses;
use crate::changes::{Changes, Folder};
use crate::files;
use crate::places::Places;
use inotify::WatchMask;
use podium_init::base64;
use podium_init::paths;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A config of the largest size as JSON.
const CONFIG_MAX: u64 = 16 << 20;
/// Between looks at the addresses, which the kernel tells nobody without a socket of its own kind.
const LOOK: Duration = Duration::from_secs(10);
/// CAs that are accepted at a time: two during a rotation, and room for a mistake.
const CAS_MAX: usize = 16;
/// Names in the server's certificate.
const NAMES_MAX: usize = 64;

/// Whom the port is open to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Nobody.
    #[default]
    Off,
    /// Anybody, to see the version and give a config.
    Maintenance,
    /// Whoever has a certificate.
    Serving,
}

/// What `apid api` goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    /// PEM: of `machine.ca`, then of each entry of `machine.acceptedCAs`; empty for one that is no PEM.
    pub(crate) cas: Vec<String>,
    /// Names and addresses of the node, sorted.
    pub(crate) sans: Vec<String>,
    pub(crate) hostname: String,
    /// In a container: there is no machine to reboot.
    pub(crate) container: bool,
    /// Off since the network API has no word of the helper, which tells nobody this itself.
    #[serde(skip)]
    pub(crate) lost: bool,
}

impl Setup {
    pub(super) fn to_line(&self) -> Value {
        let mut line = json!(self);
        line["ok"] = true.into();
        line
    }
}

/// How it is now.
pub(super) fn look(places: &Places) -> Setup {
    let hostname = hostname(places);
    let container = read_json(places, paths::MACHINE)
        .is_some_and(|machine| machine.get("container") == Some(&Value::Bool(true)));
    let config = read_json(places, paths::CONFIG_IN_USE);
    let machine = config.as_ref().and_then(|config| config.pointer("/config/machine"));
    let ca = machine.and_then(|machine| machine.pointer("/ca/crt")).and_then(pem);
    let mode = match (&config, &ca) {
        (Some(config), _) if text(config.get("source")).is_some_and(str::is_empty) => {
            // PID 1 says so as long as nothing is stored, and only of a node that never had a config.
            if config.get("fresh") == Some(&Value::Bool(true)) { Mode::Maintenance } else { Mode::Off }
        }
        (Some(_), Some(_)) => Mode::Serving,
        _ => Mode::Off,
    };
    let accepted = machine.and_then(|machine| machine.get("acceptedCAs")).and_then(Value::as_array);
    // One that is no PEM keeps its place: the network API says which one it is, and goes by the others.
    let accepted = accepted.into_iter().flatten().map(|ca| ca.get("crt").and_then(pem).unwrap_or_default());
    let more = machine.and_then(|machine| machine.get("certSANs")).and_then(Value::as_array);
    let more = more.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Setup {
        mode,
        cas: ca.into_iter().chain(accepted).take(CAS_MAX).collect(),
        sans: names(&hostname, more, addresses::all(places)),
        hostname,
        container,
        lost: false,
    }
}

/// Names and addresses, sorted. Where there are too many, those that every node has stay, then those that somebody has
/// asked for, and of addresses, of which a node with many pods may have any number, as many as there is room for.
fn names(
    hostname: &str,
    more: impl Iterator<Item = String>,
    addresses: impl IntoIterator<Item = IpAddr>,
) -> Vec<String> {
    let fixed = ["localhost", "127.0.0.1", "::1", hostname].map(str::to_owned);
    let addresses = addresses.into_iter().map(|address| address.to_string());
    let mut names = BTreeSet::new();
    for name in fixed.into_iter().chain(more).chain(addresses) {
        if !name.is_empty() && names.len() < NAMES_MAX {
            names.insert(name);
        }
    }
    names.into_iter().collect()
}

/// The CA that signs and its key, as PEM.
pub(super) fn authority(places: &Places) -> Option<(String, String)> {
    let config = read_json(places, paths::CONFIG_IN_USE)?;
    let ca = config.pointer("/config/machine/ca")?;
    Some((pem(ca.get("crt")?)?, pem(ca.get("key")?)?))
}

/// Looks again whenever something may have changed.
pub(super) async fn follow(places: &Places, changes: watch::Sender<Arc<Setup>>) {
    let mut changed = self::changes(places);
    loop {
        tokio::select! {
            () = changed.next() => changed.settle().await,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = look(places);
        changes.send_if_modified(|before| {
            let is_other = **before != now;
            if is_other {
                *before = Arc::new(now);
            }
            is_other
        });
    }
}

/// Word of each change of the files that are read.
fn changes(places: &Places) -> Changes {
    let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::DELETE;
    let is_ours = |name: &str| {
        name == "hostname" || name.ends_with(".json") && !["change.json", "pods.json"].contains(&name)
    };
    let folders = [paths::RUN, paths::NETWORK].map(|path| (places.at(path), is_ours as fn(&str) -> bool));
    let there: Vec<Folder> = folders.into_iter().filter(|(folder, _)| folder.is_dir()).collect();
    Changes::of("the config", LOOK, mask, &there)
}

fn hostname(places: &Places) -> String {
    let written = files::read(&places.at(paths::HOSTNAME), 256).unwrap_or_default();
    let written = String::from_utf8_lossy(&written).trim().to_owned();
    if written.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        written
    }
}

fn read_json(places: &Places, path: &str) -> Option<Value> {
    serde_json::from_slice(&files::read(&places.at(path), CONFIG_MAX).ok()?).ok()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// PEM in base64, as a machine config has it: what PID 1 takes for that (`validate::authority`), and by the same means.
fn pem(value: &Value) -> Option<String> {
    let pem = base64::decode(value.as_str()?.as_bytes()).ok()?;
    String::from_utf8(pem).ok().filter(|text| text.contains("-----BEGIN "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine;
    use ::base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    fn node(config: &str) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/podium")).unwrap();
        std::fs::write(root.path().join("run/podium/config.json"), config).unwrap();
        let places = Places::below(Some(root.path()));
        (root, places)
    }

    #[test]
    fn only_a_node_that_never_had_a_config_is_in_maintenance() {
        let ca = STANDARD.encode("-----BEGIN CERTIFICATE-----\n");
        let with_ca =
            format!(r#"{{"source":"STATE","config":{{"machine":{{"ca":{{"crt":"{ca}","key":"x"}}}}}}}}"#);
        for (config, mode) in [
            (r#"{"source":"","fresh":true,"config":{}}"#, Mode::Maintenance),
            (r#"{"source":"","config":{}}"#, Mode::Off),
            (r#"{"source":"","fresh":false,"config":{}}"#, Mode::Off),
            (r#"{"source":"STATE","fresh":true,"config":{}}"#, Mode::Off),
            (r#"{"source":"STATE","config":{"machine":{}}}"#, Mode::Off),
            (&with_ca, Mode::Serving),
            (r#"{"sou"#, Mode::Off),
            ("", Mode::Off),
            ("{}", Mode::Off),
        ] {
            let (_root, places) = node(config);
            assert_eq!(look(&places).mode, mode, "{config}");
        }
        assert_eq!(look(&Places::below(Some(std::path::Path::new("/no/such/root")))).mode, Mode::Off);
    }

    #[test]
    fn cas_are_taken_as_pid_1_takes_them_and_a_bad_one_keeps_its_place() {
        let pem = "-----BEGIN CERTIFICATE-----\n?\u{f8}-----END CERTIFICATE-----\n";
        let mut broken = STANDARD.encode(pem);
        broken.insert(30, '\n');
        for crt in [STANDARD.encode(pem), URL_SAFE_NO_PAD.encode(pem), broken] {
            let machine = json!({"ca": {"crt": crt, "key": "x"}, "acceptedCAs": [
                {"crt": pem}, {}, {"crt": crt}, {"crt": STANDARD.encode("no PEM")}]});
            let (_root, places) = node(&json!({"source": "x", "config": {"machine": machine}}).to_string());
            let setup = look(&places);
            assert_eq!(
                (setup.mode, setup.cas),
                (Mode::Serving, [pem, "", "", pem, ""].map(str::to_owned).into())
            );
        }
    }

    #[test]
    fn names_are_the_nodes_the_configs_and_those_of_loopback() {
        let (root, places) = node(r#"{"source":"x","config":{"machine":{"certSANs":["vip.example"]}}}"#);
        std::fs::write(root.path().join("run/podium/hostname"), "node-1\n").unwrap();
        let setup = look(&places);
        for name in ["127.0.0.1", "::1", "localhost", "node-1", "vip.example"] {
            assert!(setup.sans.iter().any(|san| san == name), "{name}: {setup:?}");
        }
    }

    #[test]
    fn what_is_beyond_the_bound_of_names_are_addresses_first() {
        let addresses = || (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
        let all = names("node-1", ["z.example".to_owned()].into_iter(), addresses());
        assert!(all.len() == NAMES_MAX && all.is_sorted(), "{all:?}");
        for name in ["127.0.0.1", "::1", "localhost", "node-1", "z.example"] {
            assert!(all.iter().any(|one| one == name), "{name}: {all:?}");
        }
        let many = names("node-1", (0..999).map(|n| format!("{n}.example")), addresses());
        assert!(many.contains(&"node-1".to_owned()) && many.contains(&"0.example".to_owned()), "{many:?}");
        assert!(!many.contains(&"10.0.0.0".to_owned()), "{many:?}");
    }
}
