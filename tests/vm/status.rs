//! What a node says of its pods: those that run, and for each of those that cannot, why. And pods that reach the
//! kubelet over http.

use super::support::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, config, hello, on_a_running_node};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::Hand;
use podium_tests::qemu::Machine;
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

/// More than the 20 s after which a kubelet asks for the list again.
const POLLED: Duration = Duration::from_secs(25);
const SOCKET: &str = "/run/podium/apid.sock";
const STOP: i32 = 19;
const CONTINUE: i32 = 18;
/// A kubelet's second look at a pod that failed comes after 10 s and more.
const REASON_LIMIT: Duration = Duration::from_secs(180);

/// Its image is nowhere.
const ABSENT: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: absent}
      spec: {containers: [{name: c, image: 'podium.local/absent:1', imagePullPolicy: Never}]}";
/// Nobody listens where its image is.
const UNPULLABLE: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: unpullable}
      spec: {containers: [{name: c, image: '127.0.0.1:9/a/b:1'}]}";
/// It ends at once.
const CRASHING: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: crashing}
      spec:
        containers: [{name: c, image: 'podium.local/guest:1', imagePullPolicy: Never, args: [exit, '3']}]";
/// A kubelet before 1.23 knows no such probe, and refuses one that asks for nothing it knows.
const REJECTED: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: rejected}
      spec:
        containers:
          - {name: c, image: 'podium.local/hello:1', imagePullPolicy: Never, livenessProbe: {grpc: {port: 1}}}";
/// Where a config waits for `init ctl`.
const NEW: &str = "/run/podium/new.yaml";

/// Has it in force, and not taken back for a pod that does not come up.
fn apply(hand: &Hand, config: &str) -> Result<()> {
    hand.replace(NEW, config.as_bytes())?;
    let said = hand.ctl(&format!("config apply {NEW} --timeout 86400"))?;
    ensure!(said.ok && said.out.contains("applied"), "{said:?}");
    Ok(())
}

/// The whole answer.
fn status(hand: &Hand) -> Result<Value> {
    let line = hand.line(SOCKET, r#"{"request":"pod status","refresh":true}"#)?;
    serde_json::from_str(&line).with_context(|| line.clone())
}

/// Waits until the pod has one of the reasons; the pod.
pub(super) fn told(hand: &Hand, id: &str, reasons: &[&str]) -> Result<Value> {
    let last = RefCell::new(Value::Null);
    let found = hand.wait(id, REASON_LIMIT, |hand| {
        let now = status(hand)?;
        let pod = now["pods"].as_array().into_iter().flatten().find(|pod| pod["id"] == id).cloned();
        last.replace(now);
        Ok(pod.filter(|pod| pod["reason"].as_str().is_some_and(|reason| reasons.contains(&reason))))
    });
    found.with_context(|| format!("wanted {reasons:?}, last told: {:#}", last.borrow()))
}

#[test]
fn each_pod_that_does_not_run_says_why() -> Result<()> {
    on_a_running_node(|disk, mut machine, hand| {
        apply(&hand, &config(&[HELLO, HAND, ABSENT, UNPULLABLE, CRASHING, REJECTED]))?;
        let pod = told(&hand, "default-hello", &[""])?;
        ensure!(pod["ready"] == true && pod["phase"] == "Running" && pod["pod_ip"] != "", "{pod:#}");
        let pod = told(&hand, "default-absent", &["ErrImageNeverPull"])?;
        ensure!(pod["containers"][0]["state"] == "waiting", "{pod:#}");
        told(&hand, "default-unpullable", &["ImagePullBackOff"])?;
        let pod = told(&hand, "default-crashing", &["CrashLoopBackOff"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains("code 3")), "{pod:#}");
        let pod = told(&hand, "default-rejected", &["Rejected"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains("livenessProbe")), "{pod:#}");
        eprintln!("{:#}", status(&hand)?);

        the_keys_were_made_before_the_kubelet_started(&machine)?;
        nobody_is_let_in_without_a_certificate(&hand).context("without a certificate")?;
        a_stopped_kubelet_is_told(&hand).context("kubelet stopped")?;
        ensure!(hand.list("/system/state/pki")? == ["ca.crt", "ca.key"]);
        machine.power_off(POWER_OFF_LIMIT)?;
        let key = disk.partition("STATE")?.read("/pki/ca.key")?;
        ensure!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"), "the CA's key is not in STATE");
        Ok(())
    })
}

fn the_keys_were_made_before_the_kubelet_started(machine: &Machine) -> Result<()> {
    let line = |text: &str| machine.wait(text, BOOT_LIMIT).map(|line| line.number);
    let (made, started) = (line("podium: pki: done")?, line("podium: kubelet: starting")?);
    ensure!(made < started, "line {made}, line {started}");
    Ok(())
}

fn nobody_is_let_in_without_a_certificate(hand: &Hand) -> Result<()> {
    ensure!(hand.anonymous(10250, "/pods")? == 401);
    ensure!(hand.anonymous(10250, "/run/default/hello/hello")? == 401);
    ensure!(hand.get(10255, "/pods").is_err(), "the read-only port is open");
    Ok(())
}

/// What is known from the manifests is told all the same, and later everything again.
fn a_stopped_kubelet_is_told(hand: &Hand) -> Result<()> {
    let kubelet = hand.process("kubelet", "kubelet")?.pid;
    hand.kill(kubelet, STOP)?;
    let stopped = status(hand);
    hand.kill(kubelet, CONTINUE)?;
    let stopped = stopped?;
    ensure!(stopped["kubelet"].as_str().is_some_and(|why| why.contains("no answer")), "{stopped:#}");
    ensure!(stopped["pods"].as_array().map_or(0, Vec::len) >= 6, "{stopped:#}");
    told(hand, "default-hello", &[""]).map(drop)
}

#[test]
fn pods_delivered_over_http_run_and_end_with_the_node() -> Result<()> {
    on_a_running_node(|disk, mut machine, hand| {
        let from = machine.console.mark();
        apply(&hand, &(config(&[HELLO, HAND, REJECTED]) + "  kubelet: {staticPodDelivery: http}\n"))?;
        machine.console.wait(from, "podium: kubelet: up", BOOT_LIMIT)?;
        ensure!(hello(&machine)?.contains("hello"));
        // A kubelet that has just started does not know yet what runs.
        hand.wait("the pod is ready", REASON_LIMIT, |hand| {
            Ok((told(hand, "default-hello", &[""])?["ready"] == true).then_some(()))
        })?;
        // The kubelet refuses the whole list for that one: the others run all the same.
        told(&hand, "default-rejected", &["Rejected"])?;
        let kubelet = hand.read("/run/podium/kubelet.json")?;
        ensure!(!kubelet.contains("staticPodPath") && kubelet.contains("Bearer "), "{kubelet}");
        let refused = hand.get(10247, "/pods").unwrap_or_else(|error| format!("{error:#}"));
        ensure!(refused.contains("401"), "{refused}");
        without_its_source_the_kubelet_keeps_the_pods(&hand).context("without the helper")?;
        let from = machine.console.mark();
        machine.power_off(POWER_OFF_LIMIT)?;
        // Not after their limit: the list was empty, and the kubelet has ended them.
        machine.console.wait(from, "podium: pod default/hello: stopped", POWER_OFF_LIMIT)?;
        for label in ["STATE", "EPHEMERAL"] {
            disk.partition(label)?.check_clean()?;
        }
        Ok(())
    })
}

/// Nobody answers while it asks: what it had holds.
fn without_its_source_the_kubelet_keeps_the_pods(hand: &Hand) -> Result<()> {
    let asks = |words: &str| -> Result<()> {
        let said = hand.ctl(words)?;
        ensure!(said.ok, "{words}: {said:?}");
        Ok(())
    };
    let pod = hand.process("hello", "hello")?;
    asks("service stop pods")?;
    let since = hand.uptime()?;
    hand.wait("the kubelet has asked for the list", REASON_LIMIT, |hand| {
        Ok((hand.uptime()?.saturating_sub(since) > POLLED).then_some(()))
    })?;
    asks("service start pods")?;
    ensure!(hand.process("hello", "hello")? == pod, "the pod was restarted");
    told(hand, "default-hello", &[""]).map(drop)
}
