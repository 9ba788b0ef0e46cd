//! Faults as data: what is done to a node, what is expected of it, and what was seen.
//!
//! A fault is independent of all others: it makes the node that it needs and drops it. It says what it saw, or fails
//! with what it saw instead. Those in namespaces run side by side, for most of their time is waiting; beside them, one
//! after the other, those in a machine that many of them use, and those with machines of their own. Each has a limit,
//! after which it is told as failed and left to itself; its node dies with the thread that started it, at the latest
//! with this process.

use crate::readme;
use anyhow::{Result, anyhow, bail, ensure};
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Until then a fault in a namespace is over: the slowest waits for several limits of a service in a row.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(300);
/// The same for a machine, which boots, and takes minutes for it on a busy host without KVM.
const MACHINE_LIMIT: Duration = Duration::from_secs(1800);
/// Nodes in namespaces side by side, which mostly wait for limits and need little of two processors.
const WORKERS: usize = 6;

/// Where a fault is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A node in namespaces, with fakes for containerd and the kubelet.
    Namespace,
    /// The real image in QEMU, in a machine of its own.
    Machine,
    /// The same, in a machine with others, so never two of them at a time. The number tells such machines apart.
    SharedMachine(usize),
}

/// As in a list.
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Namespace => "ns",
            Self::Machine | Self::SharedMachine(_) => "vm",
        })
    }
}

/// Injects it; gives what was seen, or the error says what was seen in place of what is expected.
type Run = Box<dyn FnOnce() -> Result<String> + Send>;

/// One fault.
pub struct Fault {
    /// What is attacked: `config`, `processes`, …
    pub area: &'static str,
    /// What is done, in a few words; with the area it is unique.
    pub name: String,
    /// Where.
    pub place: Place,
    /// What the node says and does then.
    pub expected: String,
    run: Run,
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.title(), self.place)
    }
}

impl Fault {
    /// A fault of a node in namespaces.
    pub fn in_namespace(
        area: &'static str,
        name: impl Into<String>,
        expected: impl Into<String>,
        run: impl FnOnce() -> Result<String> + Send + 'static,
    ) -> Self {
        let (name, expected) = (name.into(), expected.into());
        Self { area, name, place: Place::Namespace, expected, run: Box::new(run) }
    }

    /// A fault of a machine.
    pub fn in_machine(
        area: &'static str,
        name: impl Into<String>,
        expected: impl Into<String>,
        run: impl FnOnce() -> Result<String> + Send + 'static,
    ) -> Self {
        Self { place: Place::Machine, ..Self::in_namespace(area, name, expected, run) }
    }

    /// A fault of the machine in `shared`.
    pub fn in_shared_machine<T: Send + Sync + 'static>(
        area: &'static str,
        name: impl Into<String>,
        expected: impl Into<String>,
        shared: &Arc<Shared<T>>,
        run: impl FnOnce(&T) -> Result<String> + Send + 'static,
    ) -> Self {
        let shared = Arc::clone(shared);
        let place = Place::SharedMachine(Arc::as_ptr(&shared).addr());
        let run = move || run(&*shared.get()?);
        Self { place, ..Self::in_namespace(area, name, expected, run) }
    }

    /// `area: name`, what a filter looks at.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.area, self.name)
    }
}

/// Something costly that several faults use one after the other: made by the first of them, dropped after the last.
#[derive(Debug)]
pub struct Shared<T> {
    made: OnceLock<std::result::Result<Arc<T>, String>>,
    make: fn() -> Result<T>,
    keeper: Mutex<Option<Sender<()>>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Nothing is made yet.
    #[must_use]
    pub fn new(make: fn() -> Result<T>) -> Arc<Self> {
        Arc::new(Self { made: OnceLock::new(), make, keeper: Mutex::new(None) })
    }

    /// Makes it, or gives what an earlier fault has made.
    ///
    /// # Errors
    /// It could not be made, now or earlier.
    pub fn get(&self) -> Result<Arc<T>> {
        let made = self.made.get_or_init(|| {
            let (keeper, end) = mpsc::channel();
            *locked(&self.keeper) = Some(keeper);
            let (sender, receiver) = mpsc::channel();
            let make = self.make;
            // A machine ends with the thread that started it, so this one outlives the fault's own.
            thread::spawn(move || {
                drop(sender.send(make().map(Arc::new).map_err(|error| format!("{error:#}"))));
                // Nothing is ever sent: this ends when the sender is dropped.
                end.recv().ok();
            });
            receiver.recv().unwrap_or_else(|_| Err("the thread that makes it panicked".to_owned()))
        });
        made.clone().map_err(|error| anyhow!("{error}"))
    }
}

/// A fault's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its title.
    pub fault: String,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Whether that is what was expected.
    pub ok: bool,
    /// Where the README promises it.
    pub anchor: String,
}

/// As in the table: `ok  fault -> expected -> seen`.
impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ok = if self.ok { "ok    " } else { "FAILED" };
        write!(out, "{ok} {}\n       -> {}\n       -> {}", self.fault, self.expected, self.seen)
    }
}

/// What to do with the faults.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    filter: String,
    list: bool,
    json: bool,
}

/// The whole program: `[FILTER] [--list] [--json]`. Its last line is that of a Rust test program.
#[must_use]
pub fn main(faults: Vec<Fault>) -> ExitCode {
    let order = match order(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<Fault> =
        faults.into_iter().filter(|fault| fault.title().contains(&order.filter)).collect();
    if order.list {
        chosen.iter().for_each(|fault| println!("{fault:?}"));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = all_are_promised(&chosen, order.filter.is_empty()) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    // Before any limit runs; a failure is told by each fault.
    if chosen.iter().any(|fault| fault.place == Place::Namespace) {
        drop(crate::build::programs());
    }
    let say = |row: &Row| if order.json { eprintln!("{row}") } else { println!("{row}") };
    let rows = inject(chosen, say);
    let failed = rows.iter().filter(|row| !row.ok).count();
    if order.json {
        println!("{}", serde_json::json!(rows));
    } else {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("\ntest result: {word}. {} passed; {failed} failed; 0 ignored", rows.len() - failed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each area has its line in the README's table, and when `all` faults are there each line has its faults.
fn all_are_promised(faults: &[Fault], all: bool) -> Result<()> {
    let rows = readme::table("faults", 2)?;
    let promised: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    let areas: BTreeSet<String> = faults.iter().map(|fault| cell(fault.area)).collect();
    if let Some(more) = areas.difference(&promised).next() {
        bail!("README, table `faults`: there is no line {more}");
    }
    let idle = promised.difference(&areas).next().filter(|_| all);
    ensure!(idle.is_none(), "README, table `faults`: no fault is of {}", idle.map_or("", String::as_str));
    Ok(())
}

/// As it is written there.
fn cell(area: &str) -> String {
    format!("<a id=\"survives-{area}\"></a>{area}")
}

fn order(arguments: impl Iterator<Item = String>) -> Result<Order> {
    let mut order = Order::default();
    for argument in arguments {
        match argument.as_str() {
            "--list" => order.list = true,
            "--json" => order.json = true,
            word if !word.starts_with('-') && order.filter.is_empty() => order.filter = argument,
            _ => bail!("usage: faults [FILTER] [--list] [--json]"),
        }
    }
    Ok(order)
}

/// Injects all of them; the rows come in the faults' order, and each is told as soon as it is known.
pub fn inject(faults: Vec<Fault>, say: impl Fn(&Row) + Sync) -> Vec<Row> {
    let mut numbered: VecDeque<_> = faults.into_iter().enumerate().collect();
    let mut lanes = Vec::new();
    while let Some((_, first)) = numbered.front() {
        let place = first.place;
        let (lane, others): (VecDeque<_>, _) =
            numbered.into_iter().partition(|(_, fault)| fault.place == place);
        let (workers, limit) =
            if place == Place::Namespace { (WORKERS, NAMESPACE_LIMIT) } else { (1, MACHINE_LIMIT) };
        lanes.push((Mutex::new(lane), workers, limit));
        numbered = others;
    }
    let rows = Mutex::new(Vec::new());
    let (told, say) = (&rows, &say);
    thread::scope(|scope| {
        for (queue, workers, limit) in &lanes {
            for _ in 0..*workers {
                scope.spawn(move || {
                    let next = || locked(queue).pop_front();
                    while let Some((number, fault)) = next() {
                        let row = within(fault, *limit);
                        say(&row);
                        locked(told).push((number, row));
                    }
                });
            }
        }
    });
    let mut rows = std::mem::take(&mut *locked(&rows));
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Injects one, in a thread that can be left behind.
fn within(fault: Fault, limit: Duration) -> Row {
    let anchor = format!("README.md#survives-{}", fault.area);
    let (title, expected, run) = (fault.title(), fault.expected, fault.run);
    let (sender, receiver) = mpsc::channel();
    // When nobody waits any more its answer is of no use.
    thread::spawn(move || drop(sender.send(run())));
    let seen = match receiver.recv_timeout(limit) {
        Ok(seen) => seen,
        Err(RecvTimeoutError::Timeout) => Err(anyhow!("not done within {} s", limit.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err(anyhow!("the test itself panicked, see above")),
    };
    let ok = seen.is_ok();
    let seen = seen.unwrap_or_else(|error| format!("{error:#}"));
    Row { fault: title, expected, seen, ok, anchor }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn fault(name: &str, run: impl FnOnce() -> Result<String> + Send + 'static) -> Fault {
        Fault::in_namespace("area", name, "x", run)
    }

    #[test]
    fn rows_come_in_order_and_say_what_was_seen() {
        let faults = vec![
            fault("slow", || {
                thread::sleep(Duration::from_millis(30));
                Ok("one".to_owned())
            }),
            fault("other", || bail!("two")),
            fault("mad", || panic!("three")),
        ];
        let rows = inject(faults, |_| {});
        let short: Vec<_> = rows.iter().map(|row| (row.fault.as_str(), row.seen.as_str(), row.ok)).collect();
        assert_eq!(short[..2], [("area: slow", "one", true), ("area: other", "two", false)]);
        assert_eq!((short[2].0, short[2].2), ("area: mad", false));
    }

    #[test]
    fn what_is_shared_is_made_once_and_a_failure_is_told_to_each() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let shared = Shared::new(|| Ok(COUNT.fetch_add(1, Ordering::Relaxed)));
        assert_eq!((*shared.get().unwrap(), *shared.get().unwrap()), (0, 0));
        let failing = Shared::<u32>::new(|| bail!("no"));
        assert_eq!([(); 2].map(|()| failing.get().unwrap_err().to_string()), ["no", "no"]);
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let (_keep, never) = mpsc::channel::<()>();
        let hanging = fault("hangs", move || Ok(format!("{:?}", never.recv())));
        let row = within(hanging, Duration::from_millis(20));
        assert_eq!((row.seen.as_str(), row.ok), ("not done within 0 s", false));
    }

    #[test]
    fn a_row_is_what_the_json_promises() {
        let row = within(fault("f", || Ok("s".to_owned())), Duration::from_secs(60));
        assert_eq!(
            serde_json::json!([row]).to_string(),
            r#"[{"anchor":"README.md#survives-area","expected":"x","fault":"area: f","ok":true,"seen":"s"}]"#
        );
    }

    #[test]
    fn an_area_without_a_promise_is_refused() {
        let known = |area| Fault::in_namespace(area, "f", "x", || Ok(String::new()));
        assert!(all_are_promised(&[known("config"), known("boot")], false).is_ok());
        let refused = |faults: &[Fault], all| all_are_promised(faults, all).unwrap_err().to_string();
        assert!(
            refused(&[known("area")], false).ends_with("there is no line <a id=\"survives-area\"></a>area")
        );
        assert!(refused(&[known("config")], true).contains("no fault is of "));
    }

    #[test]
    fn words_of_the_command_line_are_taken() {
        let parse = |words: &[&str]| order(words.iter().map(|word| (*word).to_owned()));
        let want = Order { filter: "config".into(), list: true, json: true };
        assert_eq!(parse(&["--json", "config", "--list"]).unwrap(), want);
        assert!(parse(&["--jsn"]).is_err() && parse(&["a", "b"]).is_err());
    }
}
