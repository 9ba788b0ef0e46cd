//! What a node says of its pods: those that run, and for each of those that cannot, why. And pods that reach the
//! kubelet over http.

use super::support::{BOOT_LIMIT, HAND, HELLO, POWER_OFF_LIMIT, boot, config, hello, on_a_used_disk};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{self, Hand};
use podium_tests::inline;
use podium_tests::qemu::Machine;
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

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
/// Refused by PID 1 itself.
const NEEDLESS: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: api-server}
      spec: {containers: [{name: c, image: 'i', envFrom: [{secretRef: {name: s}}]}]}";

fn started(config: &str, disk: &podium_tests::disk::Disk) -> Result<(Machine, Hand)> {
    let machine = boot(disk, &[inline::gzip(config.as_bytes())?], &[])?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    Ok((machine, hand))
}

/// The whole answer.
fn status(hand: &Hand) -> Result<Value> {
    let line = hand.line(SOCKET, r#"{"request":"pod status","refresh":true}"#)?;
    serde_json::from_str(&line).with_context(|| line.clone())
}

/// Waits until the pod has one of the reasons; the pod.
fn told(hand: &Hand, id: &str, reasons: &[&str]) -> Result<Value> {
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
    on_a_used_disk(|disk| {
        let config = config(&[HELLO, HAND, ABSENT, UNPULLABLE, CRASHING, REJECTED, NEEDLESS]);
        let (mut machine, hand) = started(&config, disk)?;
        let pod = told(&hand, "default-hello", &[""])?;
        ensure!(pod["ready"] == true && pod["phase"] == "Running" && pod["pod_ip"] != "", "{pod:#}");
        let pod = told(&hand, "default-absent", &["ErrImageNeverPull"])?;
        ensure!(pod["containers"][0]["state"] == "waiting", "{pod:#}");
        told(&hand, "default-unpullable", &["ImagePullBackOff"])?;
        let pod = told(&hand, "default-crashing", &["CrashLoopBackOff"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains("code 3")), "{pod:#}");
        let pod = told(&hand, "default-rejected", &["Rejected"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains("livenessProbe")), "{pod:#}");
        let pod = told(&hand, "default-api-server", &["Invalid"])?;
        ensure!(pod["message"].as_str().is_some_and(|message| message.contains("secretRef")), "{pod:#}");
        eprintln!("{:#}", status(&hand)?);

        nobody_is_let_in_without_a_certificate(&hand).context("without a certificate")?;
        a_stopped_kubelet_is_told(&hand).context("kubelet stopped")?;
        ensure!(hand.list("/system/state/pki")? == ["ca.crt", "ca.key"]);
        machine.power_off(POWER_OFF_LIMIT)?;
        let key = disk.partition("STATE")?.read("/pki/ca.key")?;
        ensure!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"), "the CA's key is not in STATE");
        Ok(())
    })
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
    on_a_used_disk(|disk| {
        let config = config(&[HELLO, HAND, REJECTED]) + "  kubelet: {staticPodDelivery: http}\n";
        let (mut machine, hand) = started(&config, disk)?;
        ensure!(hello(&machine)?.contains("hello"));
        let pod = told(&hand, "default-hello", &[""])?;
        ensure!(pod["ready"] == true, "{pod:#}");
        // The kubelet refuses the whole list for that one: the others run all the same.
        told(&hand, "default-rejected", &["Rejected"])?;
        let kubelet = hand.read("/run/podium/kubelet.json")?;
        ensure!(!kubelet.contains("staticPodPath") && kubelet.contains("Bearer "), "{kubelet}");
        let refused = hand.get(10247, "/pods").unwrap_or_else(|error| format!("{error:#}"));
        ensure!(refused.contains("401"), "{refused}");
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
