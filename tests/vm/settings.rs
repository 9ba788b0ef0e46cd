//! Settings of a running node that take effect without a boot, each seen where it is used, and the pods none the wiser.
//!
//! The host is a server for the guest: a registry's mirror, and a source of pods that wants a header.

use super::support::{BOOT_LIMIT, Running, hello, on_a_running_node};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{Hand, Process};
use podium_tests::qemu::Machine;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Until a kubelet has started anew, asked its sources, and started or ended a pod.
const LIMIT: Duration = Duration::from_secs(300);
/// A client of ours that says nothing must not hold the server up.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// Where a config waits for `init ctl`.
const NEW: &str = "/run/podium/new.yaml";

/// What is in force at once, when `port` is the mirror's.
fn settings(port: u16) -> String {
    format!(
        "  sysctls: {{vm.swappiness: 17}}
  network:
    nameservers: [192.0.2.53]
    searchDomains: [seen.example]
    extraHostEntries: [{{ip: 192.0.2.7, aliases: [seen-alias]}}]
  registries: {{mirrors: {{registry.example.org: {{endpoints: ['http://10.0.2.2:{port}']}}}}}}
"
    )
}

/// A pod that waits; its process has this name with a 1 behind it.
fn pod(name: &str, image: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "hostNetwork": true, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image, "args": ["sleep", format!("{name}-1")]}],
        },
    })
}

/// A server on the host, which the guest knows as 10.0.2.2. It keeps what it was asked, and ends with its value.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Gives `pods` to who brings the header, and nothing to anybody else.
    fn start(pods: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (asked, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            move || {
                for client in listener.incoming().flatten() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    // One that has gone has been told nothing.
                    drop(answer(client, &pods, &asked));
                }
            }
        });
        Ok(Self { port, asked, over, thread: Some(thread) })
    }

    fn was_asked(&self, words: &[&str]) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().any(|request| words.iter().all(|word| request.contains(word)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(mut client: TcpStream, pods: &str, asked: &Mutex<Vec<String>>) -> Result<()> {
    client.set_read_timeout(Some(CLIENT_LIMIT))?;
    let mut request = String::new();
    let mut reader = BufReader::new(client.try_clone()?);
    while reader.read_line(&mut request)? > 2 {}
    let request = request.to_lowercase();
    let is_let_in = request.starts_with("get /pods ") && request.contains("x-podium: secret");
    let (status, body) = if is_let_in { ("200 OK", pods) } else { ("404 Not Found", "") };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    Ok(())
}

/// Applies a config; every one of `told` is in what is said.
fn apply(hand: &Hand, text: &str, told: &[&str]) -> Result<()> {
    hand.replace(NEW, text.as_bytes())?;
    let said = hand.ctl(&format!("config apply {NEW}"))?;
    ensure!(said.ok && told.iter().all(|part| said.out.contains(part)), "{told:?}: {said:?}");
    Ok(())
}

/// A process of the node and when it was started.
fn all_of(hand: &Hand, names: &[(&str, &str)]) -> Result<Vec<Process>> {
    names.iter().map(|(name, word)| hand.process(name, word)).collect()
}

const PODS: [(&str, &str); 2] = [("hello", "hello"), ("guest", "serve")];
const SERVICES: [(&str, &str); 2] = [("containerd", "containerd"), ("kubelet", "kubelet")];

#[test]
fn settings_take_effect_on_a_running_node() -> Result<()> {
    on_a_running_node(|_, machine, hand| {
        let list = [pod("remote", "podium.local/guest:1"), pod("pulled", "registry.example.org/x/y:1")];
        let server =
            Server::start(json!({"apiVersion": "v1", "kind": "PodList", "items": list}).to_string())?;
        let base = Running::config();
        // The one pod may answer before the other's process is there.
        ensure!(hello(&machine)?.contains("hello"));
        let pods = all_of(&hand, &PODS)?;
        let dmesg = hand.ctl("dmesg")?;
        ensure!(dmesg.ok && dmesg.out.contains("] Linux version "), "{:.500}", dmesg.out);

        at_once(&hand, &base, server.port).context("at once")?;
        let base = base + &settings(server.port);
        pods_by_url(&hand, &base, &server).context("pods by URL")?;
        ensure!(all_of(&hand, &PODS)? == pods, "pods were restarted for a source of other pods");
        by_http_and_back(&machine, &hand, &base, &pods).context("delivery by http")
    })
}

fn at_once(hand: &Hand, base: &str, port: u16) -> Result<()> {
    let services = all_of(hand, &SERVICES)?;
    let told = [
        "machine.sysctls.vm.swappiness: at once",
        "machine.network.nameservers: at once",
        "machine.network.searchDomains: at once",
        "machine.network.extraHostEntries: at once",
        "machine.registries: at once",
    ];
    apply(hand, &(base.to_owned() + &settings(port)), &told)?;
    ensure!(hand.read("/proc/sys/vm/swappiness")?.trim() == "17");
    for (file, texts) in [
        ("/run/podium/hosts", &["192.0.2.7", "seen-alias"][..]),
        ("/run/podium/resolv.conf", &["nameserver 192.0.2.53", "seen.example"]),
    ] {
        hand.wait(file, LIMIT, |hand| {
            let text = hand.read(file)?;
            Ok(texts.iter().all(|part| text.contains(part)).then_some(()))
        })?;
    }
    ensure!(all_of(hand, &SERVICES)? == services, "services were restarted");
    Ok(())
}

fn pods_by_url(hand: &Hand, base: &str, server: &Server) -> Result<()> {
    let kubelet = format!(
        "  kubelet: {{staticPodURL: 'http://10.0.2.2:{}/pods', staticPodURLHeader: {{X-Podium: [secret]}}}}\n",
        server.port
    );
    apply(hand, &(base.to_owned() + &kubelet), &["machine.kubelet.staticPodURL: services restart"])?;
    hand.wait("the pod of the server", LIMIT, |hand| hand.process("guest", "remote-1").map(Some))?;
    hand.wait("a question to the registry's mirror", LIMIT, |_| {
        Ok(server.was_asked(&[" /v2/x/y/manifests/1", "ns=registry.example.org"]).then_some(()))
    })
}

/// The same pods, as the same processes, whichever way they reach the kubelet.
fn by_http_and_back(machine: &Machine, hand: &Hand, base: &str, pods: &[Process]) -> Result<()> {
    let http = "  kubelet: {staticPodDelivery: http}\n";
    let from = machine.console.mark();
    apply(hand, &(base.to_owned() + http), &["machine.kubelet.staticPodDelivery: services restart"])?;
    machine.console.wait(from, "podium: kubelet: up", BOOT_LIMIT)?;
    // It has its new sources: what the old one brought goes.
    let is_gone =
        |word: &'static str| move |hand: &Hand| Ok(hand.process("guest", word).is_err().then_some(()));
    hand.wait("the end of the server's pod", LIMIT, is_gone("remote-1"))?;
    let written = hand.read("/run/podium/kubelet.json")?;
    ensure!(!written.contains("staticPodPath"), "{written}");
    let more = base.replace("  pods:", &format!("  pods:\n    - {}", pod("extra", "podium.local/guest:1")));
    apply(hand, &(more.clone() + http), &["applied"])?;
    hand.wait("a new pod by http", LIMIT, |hand| hand.process("guest", "extra-1").map(Some))?;
    ensure!(all_of(hand, &PODS)? == pods, "pods were restarted for another delivery");

    let extra = hand.process("guest", "extra-1")?;
    let from = machine.console.mark();
    apply(hand, &more, &["machine.kubelet.staticPodDelivery: services restart"])?;
    machine.console.wait(from, "podium: kubelet: up", BOOT_LIMIT)?;
    let written = hand.read("/run/podium/kubelet.json")?;
    ensure!(written.contains("staticPodPath"), "{written}");
    let last = more.replace("extra-1", "extra-2");
    apply(hand, &last, &["applied"])?;
    hand.wait("a changed pod by its file", LIMIT, |hand| hand.process("guest", "extra-2").map(Some))?;
    hand.wait("the end of what it was", LIMIT, is_gone("extra-1"))?;
    ensure!(hand.process("guest", "extra-2")?.started > extra.started);
    ensure!(all_of(hand, &PODS)? == pods, "pods were restarted on the way back");
    Ok(())
}
