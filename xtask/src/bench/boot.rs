//! `bench boot`: power on to running pods, PID 1's memory, sizes.
//!
//! Boots the real image, first on a new disk, then once more on the same one, and reads the kernel's own stamps on
//! the console. With `--icount` guest time is a count of instructions: repeatable to 1 % and the same on every host,
//! so that two versions can be compared.

use crate::{doctor, image, say};
use anyhow::{Context, Result, bail};
use clap::Args;
use podium_tests::artifacts::Image;
use podium_tests::disk::Disk;
use podium_tests::markers::{READY, Timings};
use podium_tests::qemu::{Accel, Clock, Machine, Options};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Free-running TCG on a loaded machine has taken a minute; counted time runs at about a tenth of that speed.
const BOOT_LIMIT: Duration = Duration::from_secs(900);
const POWER_OFF_LIMIT: Duration = Duration::from_secs(600);

/// How far runs with `--icount` may lie apart: what differs by more was not repeated.
const COUNTED_SPREAD_PERCENT: f64 = 1.0;

/// What is aimed at, in the result's own units; `None`: told, but no aim of ours.
const AIMS: [(&str, Option<f64>); 11] = [
    ("kernel_to_init_ms", None),
    // With the drivers that the initramfs loads, and the wait for the disk.
    ("init_to_containerd_exec_ms", None),
    ("node_to_containerd_exec_ms", Some(500.0)),
    ("containerd_start_ms", None),
    ("containerd_ready_to_kubelet_exec_ms", Some(50.0)),
    ("kubelet_to_first_container_ms", None),
    ("total_ms", None),
    ("init_pss_kib", Some(3.4 * 1024.0)),
    ("init_pss_anon_kib", Some(250.0)),
    ("init_binary_bytes", Some(3.0 * 1024.0 * 1024.0)),
    ("root_image_bytes", Some(160e6)),
];

/// Measure power on to running pods, PID 1's memory, and the sizes of what is shipped.
///
/// Times are medians in milliseconds of guest time, by the kernel's stamps on the console.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many disks are booted, twice each [default: 3, with --icount 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Count instructions instead of time: repeatable, one processor, ten times slower
    ///
    /// The guest's clock runs on while it waits for its disk: with TMPDIR=/dev/shm the host's is not in the numbers.
    #[arg(long)]
    icount: bool,
    /// What executes the machine [possible values: auto, kvm, tcg]
    #[arg(long, value_name = "HOW", default_value_t = Accel::Auto)]
    accel: Accel,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the measurement.
///
/// # Errors
/// When a boot failed: a number from half a boot would be none.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    let image = image::ensure()?;
    let runs = arguments.runs.unwrap_or(if arguments.icount { 2 } else { 3 });
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let disk = Disk::temporary(&image.disk)?;
        let measured = |name: &str| {
            say::phase(&format!("run {run} of {runs}, {name}"), || once(arguments, &image, &disk))
        };
        first.push(measured("first boot")?);
        second.push(measured("second boot")?);
    }
    let sizes =
        json!({"init_binary_bytes": image.init_binary_bytes, "root_image_bytes": image.root_image_bytes});
    let (first, second) = (summary(&first, &sizes)?, summary(&second, &sizes)?);
    if !arguments.json {
        print!("{}", table(&first, &second, arguments.icount));
        return Ok(());
    }
    // The first boot's medians are the result; the rest stands beside them.
    let mut result = first.medians;
    result.insert("spread_percent".to_owned(), Value::Object(first.spread));
    result.insert("second_boot".to_owned(), Value::Object(second.medians));
    result.insert("second_boot_spread_percent".to_owned(), Value::Object(second.spread));
    result.insert("runs".to_owned(), json!(runs));
    result.insert("icount".to_owned(), json!(arguments.icount));
    result.insert(
        "accel".to_owned(),
        json!(if arguments.icount { Accel::Tcg } else { arguments.accel.resolve() }.to_string()),
    );
    say::json(&result)
}

/// One life of a machine.
fn once(arguments: &Arguments, image: &Image, disk: &Disk) -> Result<Timings> {
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words.clone_from(&image.words);
    options.disk = Some(disk.path().to_owned());
    options.accel = arguments.accel;
    options.clock = if arguments.icount { Clock::Counted } else { Clock::Host };
    let mut machine = Machine::start(&options)?;
    let ready = machine.wait(READY, BOOT_LIMIT)?;
    machine.console.wait(ready.number, "podium: memory: ", BOOT_LIMIT)?;
    let timings = Timings::of(&machine.console.lines());
    machine.power_off(POWER_OFF_LIMIT)?;
    Ok(timings)
}

struct Summary {
    medians: Map<String, Value>,
    spread: Map<String, Value>,
}

/// Medians over the runs, and how far the runs lie apart.
fn summary(runs: &[Timings], sizes: &Value) -> Result<Summary> {
    let mut medians = Map::new();
    let mut spread = Map::new();
    let runs = runs.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let names = runs.first().and_then(Value::as_object).context("no runs")?.keys();
    for name in names {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run[name].as_f64()).collect();
        let Some(mut values) = values else {
            bail!("{name} was not seen on the console of every run");
        };
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        medians.insert(name.clone(), json!(rounded(median)));
        spread.insert(
            name.clone(),
            json!(rounded(if median > 0.0 { (most - least) / median * 100.0 } else { 0.0 })),
        );
    }
    medians.extend(sizes.as_object().cloned().unwrap_or_default());
    Ok(Summary { medians, spread })
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn table(first: &Summary, second: &Summary, icount: bool) -> String {
    let heading = ["", "first boot", "spread", "second boot", "spread", "aim"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (name, aim) in AIMS {
        let value = |map: &Map<String, Value>| map.get(name).and_then(Value::as_f64);
        let cell = |map| {
            value(map)
                .map_or_else(String::new, |value| format!("{value:.1}").trim_end_matches(".0").to_owned())
        };
        let percent = |map| {
            value(map).map_or_else(String::new, |value| {
                let far = icount && value > COUNTED_SPREAD_PERCENT;
                format!("{value:.1} %{}", if far { " MISSED" } else { "" })
            })
        };
        let aim = aim.map_or_else(String::new, |aim| {
            let met = value(&first.medians).is_some_and(|value| value <= aim);
            format!("<= {aim:.0} {}", if met { "met" } else { "MISSED" })
        });
        let (first, second) = (
            [cell(&first.medians), percent(&first.spread)],
            [cell(&second.medians), percent(&second.spread)],
        );
        rows.push([vec![name.to_owned()], first.to_vec(), second.to_vec(), vec![aim]].concat());
    }
    say::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(total_ms: f64) -> Timings {
        Timings {
            kernel_to_init_ms: Some(1.0),
            initramfs_ms: Some(1.0),
            init_to_containerd_exec_ms: Some(900.0),
            node_to_containerd_exec_ms: Some(600.0),
            containerd_start_ms: Some(1.0),
            containerd_ready_to_kubelet_exec_ms: Some(20.0),
            kubelet_to_first_container_ms: Some(1.0),
            total_ms: Some(total_ms),
            init_pss_kib: Some(1000),
            init_pss_anon_kib: Some(100),
        }
    }

    #[test]
    fn medians_and_spread_are_those_of_the_runs() {
        let runs = [timings(100.0), timings(130.0), timings(110.0)];
        let summary = summary(&runs, &json!({"root_image_bytes": 5})).unwrap();
        assert_eq!(summary.medians["total_ms"], json!(110.0));
        assert_eq!(summary.spread["total_ms"], json!(27.273));
        assert_eq!(summary.medians["root_image_bytes"], json!(5));
    }

    #[test]
    fn a_run_that_lacks_a_part_is_no_measurement() {
        let error = summary(&[Timings { total_ms: None, ..timings(0.0) }], &json!({})).err().unwrap();
        assert!(error.to_string().contains("total_ms"), "{error}");
    }

    #[test]
    fn the_table_tells_which_aims_are_met() {
        let summary = || {
            summary(&[timings(100.0)], &json!({"init_binary_bytes": 4 << 20, "root_image_bytes": 5})).unwrap()
        };
        let table = table(&summary(), &summary(), false);
        let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("node_to_containerd_exec_ms").ends_with("<= 500 MISSED"), "{table}");
        assert!(
            !line("init_to_containerd_exec_ms").contains("MISSED"),
            "drivers are no work of PID 1: {table}"
        );
        assert!(line("containerd_ready_to_kubelet_exec_ms").ends_with("<= 50 met"), "{table}");
        assert!(line("init_binary_bytes").ends_with("MISSED"), "{table}");
    }

    #[test]
    fn counted_runs_must_agree_to_a_percent() {
        let apart = |total| {
            let summary = || summary(&[timings(100.0), timings(total)], &json!({})).unwrap();
            let told = |icount| {
                table(&summary(), &summary(), icount)
                    .lines()
                    .any(|line| line.starts_with("total_ms") && line.contains("MISSED"))
            };
            (told(true), told(false))
        };
        assert_eq!(apart(100.5), (false, false));
        assert_eq!(apart(102.0), (true, false));
    }
}
