//! `bench reaction`: a changed config on a running node, to the manifest on disk and to the kubelet's pod list; and
//! how long a pod is away when its image changes.
//!
//! All times are taken inside the guest by the tests' hand, see `podium_tests::react`. The pods that make the crowd
//! never run, so that what is measured is the way of a change and not a machine at its end.
//! The node has to be idle before each change. Without KVM its time is a count of instructions, 500 million a second on
//! one processor: what else the host does is not in it, and free-running emulation varies tenfold. How long PID 1 takes
//! for the manifest is measured on the host's own processor, too, in namespaces and without a kubelet.

use crate::{doctor, image, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use podium_tests::artifacts::Image;
use podium_tests::disk::Disk;
use podium_tests::hand::{self, Hand};
use podium_tests::inline;
use podium_tests::machine::{BOOT_LIMIT, HAND};
use podium_tests::markers::READY;
use podium_tests::ns::{Node, Setup};
use podium_tests::qemu::{Accel, Clock, Machine, Options};
use podium_tests::react::{self, Reaction};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// How many pods the config has beside the hand.
const CROWDS: [usize; 4] = [1, 10, 100, 1000];
/// What Talos takes from a changed config to its pod: it reads the kubelet's list that often.
const TALOS_MS: f64 = 20_000.0;
/// The aims: manifest on disk, and the kubelet's list.
const AIMS: (f64, f64) = (50.0, 1000.0);
/// Where the pod whose image changes answers.
const PORT: u16 = 8080;
/// The same image under another name: what a kubelet compares is the name.
const OTHER_IMAGE: &str = "podium.local/hello:2";
const POLL: Duration = Duration::from_millis(500);

/// Measure a config change to its manifest and to the kubelet's pod list, and an image update's outage.
///
/// Medians of an idle node in milliseconds of guest time (without KVM that of an emulated processor of 500 million instructions a
/// second), and of the manifest on this host's processor as well, where PID 1 runs in namespaces. The outage is measured
/// with a UID that stays (stable) and one that changes with the image (hashed), on one node.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Changes measured for each number of pods, and image updates for each kind of UID
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// What executes the machine [possible values: auto, kvm, tcg]
    #[arg(long, value_name = "HOW", default_value_t = Accel::Auto)]
    accel: Accel,
    /// Fail when an aim is missed; without it the table says MISSED
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// One number of pods.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    pods: usize,
    /// On the host's processor.
    host_file_ms: f64,
    file_ms: f64,
    kubelet_ms: f64,
}

/// Runs the measurement.
///
/// # Errors
/// A change did not arrive; or, when it is asked for, an aim was missed.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    let host = say::phase("in namespaces", || on_host(arguments.runs))?;
    say::note(&format!("{host:?} ms to the manifest"));
    let image = image::ensure_for_tests()?;
    let rows = reactions(arguments, &image, &host)?;
    // A node of its own: one that gets rid of a thousand pods is busy for minutes.
    let (stable, hashed) = outages(arguments, &image)?;
    if arguments.json {
        let result = json!({"reaction": rows, "update_gap_ms": stable, "update_gap_hashed_ms": hashed, "runs": arguments.runs});
        say::json(&result)?;
    } else {
        print!("{}", table(&rows, stable, hashed));
    }
    // Not by itself: a number of a busy host says nothing of the code.
    let missed = if arguments.strict { missed(&rows) } else { Vec::new() };
    ensure!(missed.is_empty(), "aims missed: {}", missed.join(", "));
    Ok(())
}

/// A row for each number of pods; `host` are the manifest's times on the host's processor.
fn reactions(arguments: &Arguments, image: &Image, host: &[f64]) -> Result<Vec<Row>> {
    let disk = Disk::temporary(&image.disk)?;
    let machine = say::phase("booting", || boot(arguments, image, &disk))?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let mut rows = Vec::new();
    for (pods, &host_file_ms) in CROWDS.into_iter().zip(host) {
        let Reaction { file_ms, kubelet_ms, idle } =
            say::phase(&format!("{pods} pods"), || medians(&hand, pods, arguments.runs))?;
        let row = Row { pods, host_file_ms, file_ms, kubelet_ms };
        // Minutes of work, which a later failure must not take along.
        say::note(&format!(
            "{} ms to the manifest, {} ms to the kubelet's list; {:.0} % idle before that",
            row.file_ms,
            row.kubelet_ms,
            idle.unwrap_or_default() * 100.0
        ));
        rows.push(row);
    }
    Ok(rows)
}

/// How long a pod is away when its image changes: with a UID that stays, and with one that changes with the image.
fn outages(arguments: &Arguments, image: &Image) -> Result<(f64, f64)> {
    let disk = Disk::temporary(&image.disk)?;
    let machine = say::phase("booting", || boot(arguments, image, &disk))?;
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    hand.tag("podium.local/hello:1", OTHER_IMAGE)?;
    let stable = say::phase("image updates, stable UID", || outage(&hand, true, arguments.runs))?;
    say::note(&format!("{stable} ms without an answer"));
    let hashed = say::phase("image updates, hashed UID", || {
        let hand = with_hashed_uids(&machine, &hand)?;
        outage(&hand, false, arguments.runs)
    })?;
    say::note(&format!("{hashed} ms without an answer"));
    Ok((stable, hashed))
}

/// Each aim that a row does not reach, in words.
fn missed(rows: &[Row]) -> Vec<String> {
    let late = |pods: usize, what: &str, value: f64, aim: f64| {
        (value > aim).then(|| format!("{what} at {pods} pods: {value:.1} ms, not {aim:.0}"))
    };
    let of = |row: &Row| {
        let host = late(row.pods, "manifest on disk, in namespaces", row.host_file_ms, AIMS.0);
        let file = late(row.pods, "manifest on disk", row.file_ms, AIMS.0);
        let kubelet = late(row.pods, "in the kubelet's list", row.kubelet_ms, AIMS.1);
        host.into_iter().chain(file).chain(kubelet)
    };
    rows.iter().flat_map(of).collect()
}

fn boot(arguments: &Arguments, image: &Image, disk: &Disk) -> Result<Machine> {
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words.clone_from(&image.words);
    // Given once it is kept in STATE, where the hand changes it.
    options.words.push(inline::gzip(config(true, "podium.local/hello:1").as_bytes())?);
    options.disk = Some(disk.path().to_owned());
    options.accel = arguments.accel;
    options.clock = Clock::Paced;
    options.forwards = vec![(0, hand::PORT)];
    let machine = Machine::start(&options)?;
    machine.wait(READY, BOOT_LIMIT)?;
    Ok(machine)
}

/// The hand and the pod whose image changes; more pods can be put behind them.
fn config(stable: bool, image: &str) -> String {
    format!(
        "version: v1alpha1
machine:
  kubelet:
    stablePodUID: {stable}
  pods:{HAND}
    - apiVersion: v1
      kind: Pod
      metadata: {{name: updated}}
      spec:
        hostNetwork: true
        terminationGracePeriodSeconds: 5
        containers: [{{name: updated, image: {image}, imagePullPolicy: Never}}]
"
    )
}

/// The manifest's medians for each crowd, of a node in namespaces.
fn on_host(runs: u32) -> Result<Vec<f64>> {
    let init = image::static_binary("podium-init", "init")?;
    let setup = Setup {
        copies: BTreeMap::from([("/usr/sbin/init", init)]),
        // The history of configs with 1,000 pods is larger than what stands in for STATE.
        volumes: vec!["/system/state"],
        ..Setup::default()
    };
    let node = Node::up(&setup)?;
    let base = "version: v1alpha1\nmachine:\n  pods:\n";
    let median_of = |pods: usize| {
        react::written(&node.path("/"), base, pods, "m0")?;
        let changes = (1..=runs).map(|run| react::written(&node.path("/"), base, pods, &format!("m{run}")));
        median(changes.collect::<Result<_>>()?)
    };
    CROWDS.into_iter().map(median_of).collect()
}

/// The medians of some changes; the first one, which makes the crowd, is none of them.
fn medians(hand: &Hand, pods: usize, runs: u32) -> Result<Reaction> {
    let base = config(true, "podium.local/hello:1");
    hand.reaction(&base, pods, "m0")?;
    let changes = (1..=runs).map(|run| hand.reaction(&base, pods, &format!("m{run}")));
    let changes = changes.collect::<Result<Vec<Reaction>>>()?;
    let median_of = |part: fn(&Reaction) -> f64| median(changes.iter().map(part).collect());
    Ok(Reaction {
        file_ms: median_of(|change| change.file_ms)?,
        kubelet_ms: median_of(|change| change.kubelet_ms)?,
        idle: changes.iter().filter_map(|change| change.idle).min_by(f64::total_cmp),
    })
}

/// Stores the config with the other kind of UIDs, which makes new pods of all, and of the hand: the hand that is there
/// then. Its answer may be gone with the old one.
fn with_hashed_uids(machine: &Machine, hand: &Hand) -> Result<Hand> {
    let old = hand.process("guest", "serve")?;
    let config = config(false, "podium.local/hello:1");
    let first = hand.settle(&config, PORT);
    let until = Instant::now() + BOOT_LIMIT;
    loop {
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
        match hand.processes() {
            Ok(all) if all.iter().all(|process| process.pid != old.pid) => {
                hand.settle(&config, PORT).with_context(|| format!("at first: {first:?}"))?;
                return Ok(hand);
            }
            // It is on its way down.
            Ok(_) | Err(_) => {}
        }
        ensure!(Instant::now() < until, "the hand kept its UID: {first:?}");
        thread::sleep(POLL);
    }
}

/// The median time without an answer over some image updates. The first change, which may be one of the UID, is none.
fn outage(hand: &Hand, stable: bool, runs: u32) -> Result<f64> {
    let images = ["podium.local/hello:1", OTHER_IMAGE].into_iter().cycle().skip(1);
    hand.settle(&config(stable, "podium.local/hello:1"), PORT)?;
    let runs = usize::try_from(runs)?;
    median(images.take(runs).map(|image| hand.gap(&config(stable, image), PORT)).collect::<Result<_>>()?)
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).context("nothing was measured")?;
    let middle = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
    Ok((middle * 10.0).round() / 10.0)
}

fn table(rows: &[Row], stable: f64, hashed: f64) -> String {
    let met = |value: f64, aim: f64| format!("{value:.1} {}", if value <= aim { "met" } else { "MISSED" });
    let head = ["pods", "manifest in namespaces ms", "manifest in QEMU ms", "in the kubelet's list ms"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let [host, file] = [row.host_file_ms, row.file_ms].map(|value| met(value, AIMS.0));
        cells.push(vec![row.pods.to_string(), host, file, met(row.kubelet_ms, AIMS.1)]);
    }
    let aims = format!("aims: {:.0} ms, {:.0} ms; Talos: up to {TALOS_MS:.0} ms", AIMS.0, AIMS.1);
    format!(
        "{}{aims}\nimage update: {stable:.1} ms without an answer with a stable UID, {hashed:.1} ms with a hashed one\n",
        say::table(&cells)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.04]).unwrap(), 2.5);
        assert!(median(Vec::new()).is_err());
    }

    #[test]
    fn the_table_names_aims_and_talos() {
        let row = |pods, file_ms, kubelet_ms| Row { pods, host_file_ms: 3.0, file_ms, kubelet_ms };
        let rows = [row(1, 4.0, 300.0), row(1000, 80.0, 1500.0)];
        let table = table(&rows, 900.0, 12_000.0);
        assert!(table.contains("4.0 met") && table.contains("80.0 MISSED"), "{table}");
        assert!(table.contains("1500.0 MISSED") && table.contains("20000 ms"), "{table}");
        assert_eq!(missed(&rows[..1]), Vec::<String>::new());
        let late = [
            "manifest on disk at 1000 pods: 80.0 ms, not 50",
            "in the kubelet's list at 1000 pods: 1500.0 ms, not 1000",
        ];
        assert_eq!(missed(&rows), late);
    }
}
