//! The way down when it is disturbed: impatient people, a service that keeps forking, a start that is not over.

use super::support::{SIGHUP, SIGINT, SIGTERM, STUBBORN_LIMIT, goes_down, shown};
use anyhow::{Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Node, Setup, eventually, is_root};
use std::time::{Duration, Instant};

const RTMIN_5: i32 = 39;
/// What PID 1 gives a service that ignores TERM; less than that is quicker because somebody asked again.
const PATIENCE: Duration = Duration::from_secs(20);

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("shutdown", name, expected, run);
    vec![
        fault(
            "a second request while a service ignores TERM",
            "told, and quicker than that service's limit of 20 s",
            || asked_again(1),
        ),
        fault("seven more requests at once", "told, and the node ends without waiting for services", || {
            asked_again(7)
        }),
        fault(
            "another request during the last acts",
            "told there, and they are hurried as well",
            asked_during_the_last_acts,
        ),
        fault(
            "a pod that asks for more time than pods have",
            "told with the pod, and the key to raise",
            a_pod_asks_for_more,
        ),
        fault(
            "a pod that does not end (root)",
            "told by its name, killed when the pods' time is over; the node goes down in order",
            a_pod_does_not_end,
        ),
        fault(
            "every service ignores TERM, in turn",
            "each is killed within the time that they share, containerd after the kubelet",
            all_ignore_term,
        ),
        fault(
            "a service that forks while it is killed",
            "it does not get away: the node goes down in order",
            forks_while_killed,
        ),
        fault("a request before anything is up", "the node goes down in order", before_anything_is_up),
        fault(
            "a request while a service waits for its next start",
            "it is not started again; the node goes down in order",
            during_backoff,
        ),
        fault(
            "the kubelet's end while pods are waited for",
            "the node goes on with the services and goes down in order",
            kubelet_dies_meanwhile,
        ),
    ]
}

fn asked_again(more: u32) -> Result<String> {
    // With that much time for all of them, its own limit is the one that counts.
    let setup = Setup::default().script("containerd", "ignore\nready\n");
    let mut node = Node::up(&setup.config(&config("{servicesLimit: 10m}", 30)))?;
    node.signal(RTMIN_5)?;
    node.wait("podium: containerd: stopping")?;
    let since = Instant::now();
    for _ in 0..more {
        // The last ones may come too late: it may have ended by then.
        if node.signal(RTMIN_5).is_err() {
            break;
        }
    }
    let signal = node.end(STUBBORN_LIMIT)?;
    ensure!(signal == SIGHUP, "PID 1 was ended by signal {signal} and not by a reboot");
    let took = since.elapsed();
    ensure!(took < PATIENCE, "it took {took:?}");
    let line = node.wait("podium: shutdown: asked again by signal RTMIN+5")?;
    Ok(format!("{}, down {:.1} s later", shown(&line), took.as_secs_f64()))
}

fn asked_during_the_last_acts() -> Result<String> {
    let mut node = Node::up(&Setup::default().script("kubelet", "outlaw\nready\n"))?;
    eventually("its daemon", LIMIT, || node.root("/fake/kubelet.outlaw").exists().then_some(()))?;
    node.signal(RTMIN_5)?;
    node.wait("podium: halt: kill what is left")?;
    node.signal(RTMIN_5)?;
    let line = node.wait("podium: halt: asked again by signal RTMIN+5, going quicker")?;
    ensure!(node.end(STUBBORN_LIMIT)? == SIGHUP);
    node.wait("podium: halt: all processes ended")?;
    Ok(shown(&line))
}

/// One pod, with a grace period.
fn config(shutdown: &str, grace: u32) -> Vec<u8> {
    format!(
        "version: v1alpha1
machine:
  shutdown: {shutdown}
  pods:
    - apiVersion: v1
      kind: Pod
      metadata: {{name: hello}}
      spec: {{terminationGracePeriodSeconds: {grace}, containers: [{{name: a, image: podium.local/hello:1}}]}}
"
    )
    .into_bytes()
}

fn a_pod_asks_for_more() -> Result<String> {
    let mut node = Node::up(&Setup::default().config(&config("{podsLimit: 40s}", 300)))?;
    goes_down(&mut node)?;
    node.wait("podium: shutdown: power off, asked by signal TERM; at most 70 s")?;
    let line =
        node.wait("podium: shutdown: pods get 40 s to end, and some ask for more: default/hello (300 s)")?;
    ensure!(line.text.ends_with("raise machine.shutdown.podsLimit"), "{line}");
    Ok(shown(&line))
}

fn a_pod_does_not_end() -> Result<String> {
    ensure!(is_root(), "run this as root: cgroups are its alone");
    let setup = Setup::default().script("kubelet", "ready\npods\n").config(&config("{podsLimit: 1s}", 30));
    let mut node = Node::up(&setup)?;
    eventually("the pod", LIMIT, || node.root("/fake/hello.up").exists().then_some(()))?;
    goes_down(&mut node)?;
    let line = node.wait("podium: shutdown: waiting for pods: default/hello; at most 4 s")?;
    let killed = node.wait("podium: halt: all processes ended")?;
    let order = ["podium: shutdown: pods done: limit passed", "podium: shutdown: services done"];
    let order =
        order.map(|text| node.wait(text).map(|line| line.number)).into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(line.number < order[0] && order[0] < order[1] && order[1] < killed.number, "{order:?}");
    Ok(shown(&line))
}

fn all_ignore_term() -> Result<String> {
    let setup = Setup::default().script("kubelet", "ignore\nready\n").script("containerd", "ignore\nready\n");
    let mut node = Node::up(&setup.config(&config("{servicesLimit: 4s}", 30)))?;
    node.signal(SIGTERM)?;
    node.wait("podium: shutdown: waiting for services: ")?;
    ensure!(node.end(STUBBORN_LIMIT)? == SIGINT);
    let number = |text: &str| node.wait(text).map(|line| line.number);
    let lines = [
        number("podium: kubelet: still there, killed")?,
        number("podium: containerd: stopping")?,
        number("podium: containerd: still there, killed")?,
        number("podium: shutdown: services done: all services are down")?,
    ];
    ensure!(lines.is_sorted(), "{lines:?}");
    Ok("kubelet, containerd, the log writer: one after the other".to_owned())
}

fn forks_while_killed() -> Result<String> {
    let mut node = Node::up(&Setup::default().script("kubelet", "ready\nchain\n"))?;
    // A link is an orphan at once; its name is that of /proc/self/exe.
    let link = |node: &Node| {
        let mut processes = node.processes().into_iter();
        processes.find(|process| process.name == "exe" && process.host_parent == node.init())
    };
    eventually("the chain", LIMIT, || link(&node))?;
    goes_down(&mut node)?;
    let line = node.wait("podium: halt: all processes ended")?;
    Ok(shown(&line))
}

fn before_anything_is_up() -> Result<String> {
    let mut node = Node::start(&Setup::default().script("containerd", "until /never\n"))?;
    node.wait("podium: containerd: exec")?;
    goes_down(&mut node)?;
    let line = node.wait("podium: halt: all file systems unmounted")?;
    Ok(shown(&line))
}

fn during_backoff() -> Result<String> {
    let mut node = Node::start(&Setup::default().script("kubelet", "exit 3\n"))?;
    node.wait("podium: kubelet: ended, code 3; next start in ")?;
    let starts = node.starts("kubelet")?.len();
    goes_down(&mut node)?;
    ensure!(node.starts("kubelet")?.len() == starts, "it was started during the shutdown");
    let line = node.wait("podium: halt: all file systems unmounted")?;
    Ok(shown(&line))
}

fn kubelet_dies_meanwhile() -> Result<String> {
    let mut node = Node::up(&Setup::default().script("containerd", "ignore\nready\n"))?;
    let kubelet = node.nth_start("kubelet", 1)?.pid;
    node.signal(SIGTERM)?;
    node.wait("podium: shutdown: ")?;
    // It may be gone already: that is as well.
    node.signal_process(kubelet, super::support::SIGKILL).ok();
    let signal = node.end(STUBBORN_LIMIT)?;
    ensure!(signal == SIGINT, "PID 1 was ended by signal {signal} and not by a power off");
    ensure!(node.starts("kubelet")?.len() == 1, "the kubelet was started during the shutdown");
    let line = node.wait("podium: halt: all file systems unmounted")?;
    Ok(shown(&line))
}
