//! `bench peers`: Podium's PID 1 beside other inits, each as PID 1 of a machine that counts instructions for time.
//!
//! Every machine has the same kernel, the same probe as a service and the same gauge as another, which measures from
//! inside; see `podium_tests::gauge`. Rounds go through all inits in turn, so what changes on the host changes for all.

mod figures;
mod recipes;

use crate::{doctor, image, say};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use figures::Row;
use podium_image::build::{self, Checkout};
use podium_image::cpio::{self, Device};
use podium_image::packages::Policy;
use podium_image::tree::Tree;
use podium_tests::disk::temporary_folder;
use podium_tests::gauge::{FAILED, MEASURED, Measured};
use podium_tests::qemu::{Clock, Machine, Options};
use recipes::{Program, Recipe};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Versions of the peers' packages, beside the image's own.
const LOCK: &str = "peers.lock";
/// What is on the console until a result: nothing, so that no serial line is waited for. With the peers' own words less
/// is said by some of them, too.
const WORDS: [&str; 6] =
    ["console=ttyS0", "quiet", "loglevel=1", "printk.devkmsg=on", "log_buf_len=1M", "panic=-1"];
/// A thousand processes, and a whole systemd.
const MEMORY_MIB: u32 = 1024;
/// Some minutes of guest time, most of it idle, which is skipped: a minute on an idle host.
const LIMIT: Duration = Duration::from_secs(900);
/// Before anybody mounts devtmpfs. The kernel itself brings /dev/console.
const DEVICES: [Device; 2] =
    [Device { path: "dev/kmsg", number: (1, 11) }, Device { path: "dev/null", number: (1, 3) }];

/// Compare Podium's init with others: boot, restart, reaping, memory, wake-ups.
///
/// Each is PID 1 of a machine in QEMU with Podium's kernel, one initramfs an init, one processor, and time that is a
/// count of instructions: two runs differ by about a percent. With TMPDIR=/dev/shm no disk is written to.
///
/// exec_to_service_ms: from the kernel's execution of PID 1 to the first line of a service. Podium's is its whole node
/// stage (mounts, a config checked by a child, files, manifests; no disk and no modules) up to the first program that
/// is not its own; the others start with no mount made and nothing else to do. runit has its two scripts, s6 none.
/// restart_ms: SIGKILL to the first line of the next life, five times, a minute apart, so that no init's brake on what
/// dies often is in it. Podium's is containerd's, which has one more program of ours before it.
/// reap_1000_ms: 1,000 orphans end at once, until none is a zombie. pss_anon_kib: memory of PID 1 alone that it shares
/// with nobody. pss_kib: with the init's other processes, and with the program's own pages, which an initramfs holds in
/// memory. idle_wakeups: how often PID 1 is woken in 20 s.
///
/// "bare" is a loop that does nothing but start, reap and start again: what the machine itself costs, 1,000 ends of
/// processes above all. It is nobody's peer.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How often each init is started and measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Which of podium, bare, busybox, finit, runit, s6, systemd, sysvinit [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    peers: Vec<String>,
    /// Fail when an aim is missed; without it the table says MISSED
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the measurement.
///
/// # Errors
/// An init did not come up or could not be measured; or, when it is asked for, an aim was missed.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let chosen = chosen(&arguments.peers)?;
    doctor::ensure()?;
    let checkout = Checkout::at(&crate::top());
    let kernel = say::phase("the kernel", || build::kernel(&checkout, Policy::default()))?.image;
    let programs = say::phase("building the programs", programs)?;
    let folder = temporary_folder()?;
    let mut machines = Vec::new();
    for recipe in chosen {
        let file = folder.path().join(format!("{}.img", recipe.name));
        say::phase(&format!("initramfs of {}", recipe.name), || {
            initramfs(&checkout, recipe, &programs, &file)
        })?;
        machines.push((recipe, file));
    }
    let mut seen: BTreeMap<&str, Vec<Measured>> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        for (recipe, file) in &machines {
            let what = format!("round {round} of {}, {}", arguments.rounds, recipe.name);
            let measured = say::phase(&what, || once(recipe, &kernel, file))?;
            seen.entry(recipe.name).or_default().push(measured);
        }
    }
    let rows = machines.iter().filter_map(|(recipe, _)| Some((recipe.name, seen.get(recipe.name)?)));
    let rows = rows.map(|(name, rounds)| Row::of(name, rounds)).collect::<Result<Vec<Row>>>()?;
    let init = programs.get(&Program::Init).context("PID 1 was not built")?;
    let aims = figures::aims(&rows, init.metadata()?.len());
    if arguments.json {
        say::json(&serde_json::json!({"rows": rows, "aims": aims, "rounds": arguments.rounds}))?;
    } else {
        print!("{}", figures::table(&rows, &aims));
    }
    let missed: Vec<&str> = aims.iter().filter(|aim| !aim.met).map(|aim| aim.name).collect();
    ensure!(!arguments.strict || missed.is_empty(), "aims missed: {}", missed.join(", "));
    Ok(())
}

/// The recipes of these names, in the table's order; all when there are none.
fn chosen(names: &[String]) -> Result<Vec<&'static Recipe>> {
    let known = || recipes::ALL.iter().map(|recipe| recipe.name);
    if let Some(unknown) = names.iter().find(|name| known().all(|known| known != **name)) {
        bail!("no init `{unknown}`; there are {}", known().collect::<Vec<_>>().join(", "));
    }
    let is_chosen = |recipe: &&Recipe| names.is_empty() || names.iter().any(|name| name == recipe.name);
    Ok(recipes::ALL.iter().filter(is_chosen).collect())
}

/// All of them static, and PID 1 as it is in the image.
fn programs() -> Result<BTreeMap<Program, PathBuf>> {
    let built = Program::ALL.iter().map(|&program| {
        let (package, binary) = program.place();
        Ok((program, image::static_binary(package, binary)?))
    });
    built.collect()
}

fn initramfs(
    checkout: &Checkout,
    recipe: &Recipe,
    programs: &BTreeMap<Program, PathBuf>,
    file: &Path,
) -> Result<()> {
    let picked = recipe.picked();
    let packages = match picked.is_empty() {
        true => Tree::default(),
        false => build::foreign_files(checkout, Policy::default(), LOCK, &picked)?,
    };
    let tree = recipe.tree(packages, programs)?;
    fs::write(file, cpio::write_with(&tree, &DEVICES)?).with_context(|| file.display().to_string())
}

/// One life of a machine.
fn once(recipe: &Recipe, kernel: &Path, initramfs: &Path) -> Result<Measured> {
    let mut options = Options::new(kernel, initramfs);
    let init = format!("rdinit={}", recipe.init);
    options.words = WORDS.map(str::to_owned).into();
    options.words.push(init);
    options.words.extend(recipe.words.iter().map(|&word| word.to_owned()));
    (options.clock, options.network, options.memory_mib) = (Clock::Counted, false, MEMORY_MIB);
    let machine = Machine::start(&options)?;
    let is_result = |text: &str| text.contains(MEASURED) || text.contains(FAILED);
    let line = machine.console.wait_for(0, "a result", LIMIT, |line| is_result(&line.text))?;
    machine.kill();
    let json = line.text.split_once(MEASURED).with_context(|| line.text.clone())?.1;
    serde_json::from_str(json).with_context(|| line.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_chosen_by_name_in_the_tables_order() {
        let names = |chosen: Vec<&Recipe>| chosen.iter().map(|recipe| recipe.name).collect::<Vec<_>>();
        let of = |words: &[&str]| chosen(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(of(&["s6", "podium"]).unwrap()), ["podium", "s6"]);
        assert_eq!(of(&[]).unwrap().len(), recipes::ALL.len());
        assert!(of(&["upstart"]).unwrap_err().to_string().contains("no init `upstart`"));
    }
}
