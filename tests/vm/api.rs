//! A node that is operated over its API alone, from its first config on, by the program that operators use; and whom
//! the API does not let in.
//!
//! The tests' hand in the node is a pod of that first config. It only looks: what is done, `podiumctl` does.

use super::support::{BOOT_LIMIT, HAND, HELLO, boot, hello, on_a_new_disk};
use super::surface::is_as_the_readme_has_it;
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{self, Hand};
use podium_tests::operator::{self, Operator, Said};
use podium_tests::qemu::Machine;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Until the node has done what a client on an emulated machine waits for.
const LIMIT: Duration = Duration::from_secs(300);
/// What the README lists for all addresses, beside the tests' hand: of TCP,
const OPEN: [u16; 2] = [operator::PORT, hand::PORT];
/// and of UDP, where a client waits for answers of DHCP.
const OPEN_UDP: [u16; 2] = [68, 546];

/// States in the kernel's tables of sockets.
const LISTENS: &str = "0A";
/// As [`LISTENS`], of UDP.
const UNCONNECTED: &str = "07";

/// A pod that cannot be: its name is none.
const BAD: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: Not_A_Name}
      spec: {containers: [{name: c, image: podium.local/hello:1}]}";

#[test]
fn a_fresh_node_is_operated_over_its_api() -> Result<()> {
    on_a_new_disk(|disk| {
        let mut machine = boot(disk, &["podium.config=none".to_owned()], &[])?;
        let operator = Operator::new(machine.port(operator::PORT)?)?;
        first_config(&machine, &operator).context("maintenance")?;
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
        looks(&operator).context("looks")?;
        is_as_the_readme_has_it(&hand).context("what it shows to others")?;
        changes(&machine, &operator).context("changes")?;
        strangers(&machine, &operator).context("strangers")?;
        without_rights(&hand).context("the API's process")?;
        ports(&hand).context("ports")?;
        without_kubelet(&operator).context("without a kubelet")?;
        reboots(&machine, &operator).context("reboot")?;
        resets(&machine, &operator).context("reset")?;
        first_config_by_reboot(&machine, &operator).context("first config in mode reboot")?;
        turns_off(&mut machine, &operator).context("shutdown")
    })
}

/// Anybody may look who it is and give it a config, until it has one.
fn first_config(machine: &Machine, operator: &Operator) -> Result<()> {
    let line = machine.wait("podium: api: there is no config; give one with --insecure", BOOT_LIMIT)?.text;
    let (_, fingerprint) = line.rsplit_once(' ').context("no fingerprint")?;
    let node = ["--insecure", "-n", operator.address(), "--cert-fingerprint"];
    let by = |command: &'static str, fingerprint: &str| {
        operator.run(&[&[command][..], &node, &[fingerprint]].concat())
    };
    // It is shown before the node has an address.
    machine.wait("podium: network: eth0 10.", BOOT_LIMIT)?;
    ensure!(by("version", fingerprint)?.ok()?.out.contains("Server:"));
    let other = format!("A{}", fingerprint.get(1..).context("a short fingerprint")?);
    by("version", &other)?.refused(&["its fingerprint is", fingerprint])?;

    let from = machine.console.mark();
    let config = operator.config(&[HELLO, HAND])?;
    operator.apply(&config, &[&node[..], &[fingerprint]].concat())?.ok()?;
    // The admin's certificate counts from now on; the first pods are followed as they come.
    operator.wait(&["version", "--short"], LIMIT, |said| said.out.contains("Server "))?;
    let watch = operator.follow(&["get", "staticpodstatus", "-w"])?;
    machine.console.wait(from, "podium: ready: all 2 pods running", BOOT_LIMIT)?;
    for pod in ["default/hello-", "default/hand-"] {
        let is_ready = |text: &str| text.contains(pod) && text.ends_with("True");
        watch.console.wait_for(0, pod, LIMIT, |line| is_ready(&line.text))?;
    }
    Ok(())
}

/// Name and version of each static pod.
fn pods(said: &Said) -> Vec<(&str, &str)> {
    said.rows().into_iter().filter_map(|row| Some((*row.get(3)?, *row.get(4)?))).collect()
}

/// What the node says of its pods and services.
fn looks(operator: &Operator) -> Result<()> {
    let said = operator.run(&["get", "staticpods"])?.ok()?;
    ensure!(pods(&said) == [("default-hand", "1"), ("default-hello", "1")], "{said:?}");
    let is_ready =
        |said: &Said| said.rows().len() == 2 && said.rows().iter().all(|row| row.ends_with(&["True"]));
    let said = operator.wait(&["get", "staticpodstatus"], LIMIT, is_ready)?;
    let rows = said.rows();
    let hand = rows.first().and_then(|row| row.get(3)).context("no pod")?;
    ensure!(hand.starts_with("default/hand-"), "{said:?}");

    let said = operator.run(&["containers", "-k"])?.ok()?;
    let has = |words: &[&str]| said.out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    ensure!(has(&[&format!(" {hand} "), "SANDBOX_READY"]), "{said:?}");
    let container = format!("{hand}:hand");
    ensure!(has(&[&format!("└─ {container}:"), "podium.local/guest:1", "CONTAINER_RUNNING"]), "{said:?}");
    let said = operator.run(&["logs", "-k", &container])?.ok()?;
    ensure!(said.out.contains(" stdout F listening on 9000\n"), "{said:?}");

    let said = operator.run(&["services"])?.ok()?;
    for service in ["containerd", "kubelet", "apid", "api"] {
        let is_up = said.rows().iter().any(|row| row.get(1..3) == Some(&[service, "Running"]));
        ensure!(is_up, "{service}: {said:?}");
    }
    let said = operator.run(&["get", "machineconfig", "-o", "yaml"])?.ok()?;
    ensure!(said.out.contains("name: hello"), "{said:?}");
    for words in [
        &["memory"][..],
        &["processes"],
        &["mounts"],
        &["dmesg"],
        &["list", "/etc"],
        &["usage", "/etc"],
        &["stats", "-k"],
        &["service", "kubelet"],
        &["get", "services"],
        &["get", "nodestatus"],
        &["get", "rd"],
    ] {
        ensure!(!operator.run(words)?.ok()?.rows().is_empty(), "{words:?}: nothing");
    }
    operator.run(&["read", "/proc/sys/kernel/random/boot_id"])?.ok()?;
    operator.run(&["health", "--wait-timeout", "5m"])?.ok()?;
    let past = operator.follow(&["events", "--tail", "-1"])?;
    past.console.wait_for(0, "an event of the boot", LIMIT, |line| line.text.contains("kubelet"))?;
    Ok(())
}

/// A changed pod is its next version; a config with a mistake changes nothing.
fn changes(machine: &Machine, operator: &Operator) -> Result<()> {
    let log = operator.follow(&["logs", "kubelet", "-f", "--tail", "3"])?;
    log.console.wait_for(0, "the kubelet's log", LIMIT, |line| line.text.starts_with("127.0.0.1: "))?;
    let (from, log_from) = (machine.console.mark(), log.console.mark());
    let changed = HELLO.replace("{name: hello}", "{name: hello, labels: {changed: 'yes'}}");
    let config = operator.config(&[&changed, HAND])?;
    let said = operator.apply(&config, &["--dry-run"])?.ok()?;
    ensure!(said.out.contains("labels"), "the difference: {said:?}");
    operator.apply(&config, &[])?.ok()?;
    let now = [("default-hand", "1"), ("default-hello", "2")];
    operator.wait(&["get", "staticpods"], LIMIT, |said| pods(said) == now)?;
    machine.console.wait(from, "podium: pod default/hello: running", BOOT_LIMIT)?;
    log.console.wait_for(log_from, "more of the kubelet's log", LIMIT, |line| {
        // What went wrong is on the console, too, behind another name.
        line.text.starts_with("127.0.0.1: ")
    })?;

    let bad = operator.config(&[&changed, HAND, BAD])?;
    let said =
        operator.apply(&bad, &[])?.refused(&["Not_A_Name", "refuses the config", "nothing has changed"])?;
    ensure!(said.err.contains("applied.yaml:"), "the place of the mistake: {said:?}");
    ensure!(pods(&operator.run(&["get", "staticpods"])?.ok()?) == now);

    let swappiness = |wanted: &'static str| {
        operator.wait(&["read", "/proc/sys/vm/swappiness"], LIMIT, |said| said.out.trim() == wanted)
    };
    let patch = "{machine: {sysctls: {vm.swappiness: \"33\"}}}";
    let from = machine.console.mark();
    operator.run(&["patch", "machineconfig", "-p", patch])?.ok()?;
    swappiness("33")?;
    machine.console.wait(from, "kubelet and pods are up; it is the last known good one", LIMIT)?;
    let from = machine.console.mark();
    let other = patch.replace("33", "34");
    let words = ["patch", "machineconfig", "-p", &other, "--mode", "try", "--timeout", "20s"];
    operator.run(&words)?.ok()?;
    swappiness("34")?;
    machine.console.wait(from, "podium: config: going back: its time in try mode is over", LIMIT)?;
    swappiness("33")?;
    // Settings come first, and an editor is shown what the node's config is.
    operator.wait(&["get", "machineconfig", "-o", "yaml"], LIMIT, |said| {
        said.out.lines().any(|line| line.contains("vm.swappiness") && line.contains("33"))
    })?;
    // What the editor leaves is the config; the operator's is a program here.
    let editor = operator.script("sed -i '/swappiness/s/33/35/' \"$1\"")?;
    let said = operator.run_with(&["edit", "machineconfig"], &[("EDITOR", &editor)])?.ok()?;
    swappiness("35").with_context(|| format!("{said:?}"))?;
    operator.run(&["service", "chronyd", "restart"])?.ok()?;
    machine.console.wait(from, "podium: chronyd: up", LIMIT)?;
    Ok(())
}

/// Who has no certificate, one of another CA, or a role too low.
fn strangers(machine: &Machine, operator: &Operator) -> Result<()> {
    let insecure = ["--insecure", "-n", operator.address()];
    let wants = &["wants a client certificate"];
    operator.run(&[&["version"][..], &insecure].concat())?.refused(wants)?;
    operator.apply(&operator.config(&[HELLO])?, &insecure)?.refused(wants)?;

    let stranger = Operator::new(machine.port(operator::PORT)?)?;
    stranger.run(&["version"])?.refused(&["not signed by the CA"])?;
    // It would take the node as it is; the node does not take it.
    let field = |of: &Operator, key: &str| -> Result<String> {
        let text = fs::read_to_string(of.path("talosconfig"))?;
        let line = text.lines().find(|line| line.trim_start().starts_with(key)).context("no such key")?;
        Ok(line.to_owned())
    };
    let text = fs::read_to_string(stranger.path("talosconfig"))?;
    let mixed = text.replace(&field(&stranger, "ca: ")?, &field(operator, "ca: ")?);
    ensure!(mixed != text);
    stranger.write("mixed", &mixed)?;
    let said = stranger.run_by(&stranger.path("mixed"), &["version"])?;
    said.refused(&["does not accept the client certificate"])?;

    let (reader, from) = (operator.path("reader"), operator.path("machineconfig.yaml"));
    let (reader_name, from) = (reader.to_string_lossy(), from.to_string_lossy());
    let endpoint = ["--endpoints", operator.address()];
    let new = ["config", "new", &reader_name, "--roles", "os:reader", "--from", &from];
    operator.run(&[&new[..], &endpoint].concat())?.ok()?;
    operator.run_by(&reader, &["get", "staticpods"])?.ok()?;
    for words in [&["reboot", "--wait=false"][..], &["service", "kubelet", "restart"]] {
        operator.run_by(&reader, words)?.refused(&["os:operator"])?;
    }
    operator.run_by(&reader, &["read", "/etc/passwd"])?.refused(&["os:admin"])?;
    Ok(())
}

/// What listens to the network is nobody, and says who wrote.
fn without_rights(hand: &Hand) -> Result<()> {
    let processes = hand.processes()?;
    let is_api = |process: &&hand::Process| process.argv.get(1).is_some_and(|verb| verb == "api");
    let process = processes.iter().find(is_api).context("no apid api")?;
    let status = hand.read(&format!("/proc/{}/status", process.pid))?;
    let words = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().collect()
    };
    ensure!(words("Uid:") == ["52"; 4] && words("Gid:") == ["52"; 4], "{status}");
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        ensure!(words(name) == ["0000000000000000"], "{status}");
    }
    ensure!(words("NoNewPrivs:") == ["1"] && words("Seccomp:") == ["2"], "{status}");
    let log = hand.ctl("logs api")?.out;
    ensure!(!log.contains("sandbox: "), "it lacks a part of its sandbox: {log}");
    let wrote = ["audit: ", "role=os:admin", "method=\"ApplyConfiguration\"", "result=\"ok\""];
    ensure!(log.lines().any(|line| wrote.iter().all(|word| line.contains(word))), "{log}");
    Ok(())
}

/// Nothing but what the README lists is open to others.
fn ports(hand: &Hand) -> Result<()> {
    let open = |name: &str, state: &str| -> Result<BTreeSet<u16>> {
        let tables = ["", "6"].map(|family| hand.read(&format!("/proc/1/net/{name}{family}")));
        let tables = tables.into_iter().collect::<Result<String>>()?;
        Ok(tables.lines().filter_map(|line| open_to_others(line, state)).collect())
    };
    let (tcp, udp) = (open("tcp", LISTENS)?, open("udp", UNCONNECTED)?);
    ensure!(tcp == BTreeSet::from(OPEN), "TCP: {tcp:?}");
    ensure!(udp.is_subset(&BTreeSet::from(OPEN_UDP)), "UDP: {udp:?}");
    Ok(())
}

/// The port in a line of the kernel's table of sockets, when other machines could reach it.
fn open_to_others(line: &str, state: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    // Addresses are in the processor's order, 32 bits at a time; ::ffff:127.0.0.1 is loopback as well.
    let is_loopback = address.ends_with("7F") && (address.len() == 8 || address.contains("FFFF0000"))
        || address == "00000000000000000000000001000000";
    let is_open = words.get(3) == Some(&state) && !is_loopback;
    is_open.then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

/// Containers are asked for at containerd, manifests and pods' logs are the node's own, and what the kubelet said last
/// of its pods is known: one that is down hides none of them.
fn without_kubelet(operator: &Operator) -> Result<()> {
    let is = |said: &Said, state: &str| {
        said.rows().iter().any(|row| row.get(1..3).is_some_and(|row| row == ["kubelet", state]))
    };
    operator.run(&["service", "kubelet", "stop"])?.ok()?;
    operator.wait(&["services"], LIMIT, |said| is(said, "Finished"))?;
    let said = operator.run(&["containers", "-k"])?.ok()?;
    ensure!(said.out.contains(":hello:") && said.out.contains("CONTAINER_RUNNING"), "{said:?}");
    ensure!(pods(&operator.run(&["get", "staticpods"])?.ok()?).len() == 2);
    let said = operator.run(&["get", "staticpodstatus"])?.ok()?;
    let hand = said
        .rows()
        .into_iter()
        .find_map(|row| row.get(3).filter(|id| id.starts_with("default/hand-")).copied());
    let hand = hand.with_context(|| format!("{said:?}"))?;
    let said = operator.run(&["logs", "-k", &format!("{hand}:hand")])?.ok()?;
    ensure!(said.out.contains(" stdout F listening on 9000\n"), "{said:?}");
    operator.run(&["service", "kubelet", "start"])?.ok()?;
    operator.wait(&["services"], LIMIT, |said| is(said, "Running"))?;
    Ok(())
}

/// The node goes and comes back as it was.
fn reboots(machine: &Machine, operator: &Operator) -> Result<()> {
    let from = machine.console.mark();
    let said = operator.run(&["reboot", "--wait", "--timeout", "18m"])?.ok()?;
    ensure!(said.err.contains("is going down") && said.err.contains("is ready"), "{said:?}");
    machine.console.wait(from, "podium: config from STATE: 2 pods", Duration::ZERO)?;
    let now = [("default-hand", "1"), ("default-hello", "2")];
    operator.wait(&["get", "staticpods"], LIMIT, |said| pods(said) == now)?;
    ensure!(hello(machine)?.contains("hello"));
    Ok(())
}

/// The node forgets its config and its keys, and waits for a config as it did at first.
fn resets(machine: &Machine, operator: &Operator) -> Result<()> {
    let from = machine.console.mark();
    let said = operator.run(&["reset", "--reboot", "--wait", "--timeout", "18m"])?.ok()?;
    ensure!(said.err.contains("is going down") && said.err.contains("waits for a config"), "{said:?}");
    for (label, device) in [("EPHEMERAL", "/dev/vda5"), ("STATE", "/dev/vda4")] {
        machine.console.wait(from, &format!("reset: {label} on {device} wiped"), Duration::ZERO)?;
    }
    let line =
        machine.console.wait(from, "podium: api: there is no config; give one with --insecure", LIMIT)?;
    let (_, fingerprint) = line.text.rsplit_once(' ').context("no fingerprint")?;
    let node = ["--insecure", "-n", operator.address(), "--cert-fingerprint", fingerprint];
    ensure!(operator.run(&[&["version"][..], &node].concat())?.ok()?.out.contains("Server:"));
    // Who held its keys is nobody to it now.
    operator.run(&["version"])?.refused(&["certificate"])?;
    Ok(())
}

/// A first config may wait for a reboot: whoever gives it has his answer before that, and the node comes back with it.
fn first_config_by_reboot(machine: &Machine, operator: &Operator) -> Result<()> {
    let from = machine.console.mark();
    let config = operator.config(&[HELLO])?;
    let words = ["--insecure", "-n", operator.address(), "--mode", "reboot"];
    let said = operator.apply(&config, &words)?.ok()?;
    ensure!(format!("{}{}", said.out, said.err).contains("with a reboot"), "{said:?}");
    machine.console.wait(from, "podium: ready: all 1 pods running", BOOT_LIMIT)?;
    operator.wait(&["get", "staticpods"], LIMIT, |said| pods(said) == [("default-hello", "1")])?;
    Ok(())
}

/// The node is silent when the command ends, and its machine off.
fn turns_off(machine: &mut Machine, operator: &Operator) -> Result<()> {
    let said = operator.run(&["shutdown", "--wait", "--timeout", "18m"])?.ok()?;
    ensure!(said.err.contains("is going down"), "{said:?}");
    machine.wait_exit(LIMIT)
}
