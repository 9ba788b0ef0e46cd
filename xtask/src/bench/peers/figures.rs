//! Medians and spreads of what was measured, and what they are held against.

use crate::say;
use anyhow::{Context, Result};
use podium_tests::gauge::Measured;
use serde::Serialize;
use std::collections::BTreeMap;

/// Whose figures are held against the aims.
const OURS: &str = "podium";
/// Not an init that anybody could use, so nobody's peer.
const FLOOR: &str = "bare";
/// Nearer than this is no difference: two runs lie apart as far.
const TOLERANCE: f64 = 1.01;

/// One init: medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) init: String,
    exec_to_service_ms: f64,
    restart_ms: f64,
    reap_1000_ms: f64,
    pss_anon_kib: f64,
    pss_kib: f64,
    idle_wakeups: f64,
    processes: f64,
    /// By figure: how far the rounds lie apart, in percent of the median.
    spread_percent: BTreeMap<&'static str, f64>,
}

/// What the table shows, and how exactly.
const COLUMNS: [(&str, usize); 7] = [
    ("exec_to_service_ms", 2),
    ("restart_ms", 2),
    ("reap_1000_ms", 1),
    ("pss_anon_kib", 0),
    ("pss_kib", 0),
    ("idle_wakeups", 0),
    ("processes", 0),
];

impl Row {
    /// # Errors
    /// There was no round.
    pub(super) fn of(init: &str, rounds: &[Measured]) -> Result<Self> {
        let mut spread_percent = BTreeMap::new();
        let mut figure = |name: &'static str, value: fn(&Measured) -> f64| -> Result<f64> {
            let (median, spread) = median(rounds.iter().map(value).collect())?;
            spread_percent.insert(name, rounded(spread));
            Ok(rounded(median))
        };
        Ok(Self {
            init: init.to_owned(),
            exec_to_service_ms: figure("exec_to_service_ms", |seen| seen.exec_to_service_ms)?,
            restart_ms: figure("restart_ms", |seen| {
                median(seen.restarts_ms.clone()).map_or(f64::NAN, |(median, _)| median)
            })?,
            reap_1000_ms: figure("reap_1000_ms", |seen| seen.reap_1000_ms)?,
            pss_anon_kib: figure("pss_anon_kib", |seen| whole(seen.pss_anon_kib))?,
            pss_kib: figure("pss_kib", |seen| whole(seen.pss_kib))?,
            idle_wakeups: figure("idle_wakeups", |seen| whole(seen.idle_wakeups))?,
            processes: figure("processes", |seen| {
                f64::from(u32::try_from(seen.processes).unwrap_or(u32::MAX))
            })?,
            spread_percent,
        })
    }

    fn value(&self, name: &str) -> f64 {
        match name {
            "exec_to_service_ms" => self.exec_to_service_ms,
            "restart_ms" => self.restart_ms,
            "reap_1000_ms" => self.reap_1000_ms,
            "pss_anon_kib" => self.pss_anon_kib,
            "pss_kib" => self.pss_kib,
            "idle_wakeups" => self.idle_wakeups,
            _ => self.processes,
        }
    }
}

/// Something that is to hold, and whether it does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Aim {
    pub(super) name: &'static str,
    /// What Podium has.
    value: f64,
    /// What it may have at most.
    most: f64,
    /// The init whose figure that is; `None`: the aim is a number.
    peer: Option<String>,
    pub(super) met: bool,
}

/// Figures that are held against a number.
const MOST: [(&str, f64); 5] = [
    ("exec_to_service_ms", 6.5),
    ("restart_ms", 1.15),
    ("reap_1000_ms", 80.0),
    ("pss_anon_kib", 250.0),
    // No watchdog is in these machines, so nothing has to wake it.
    ("idle_wakeups", 0.0),
];
/// Figures in which no peer may be ahead.
const RACES: [(&str, &str); 3] = [
    ("exec_to_service_ms", "no peer boots faster"),
    ("restart_ms", "no peer restarts faster"),
    ("reap_1000_ms", "no peer reaps faster"),
];
/// Reaping is held against the floor's, too: nearly all of it is the kernel's work for 1,000 ends, which differs by
/// machine. 80 ms beside 76, as first measured.
const REAPING: (&str, f64) = ("reaping, by that of bare", 1.05);
const BINARY_MOST: f64 = 3.0 * 1024.0 * 1024.0;

/// What Podium's row is held against; nothing when it was not measured.
pub(super) fn aims(rows: &[Row], binary_bytes: u64) -> Vec<Aim> {
    let Some(ours) = rows.iter().find(|row| row.init == OURS) else { return Vec::new() };
    let at_most = |name, value: f64, most: f64| Aim { name, value, most, peer: None, met: value <= most };
    let numbers = MOST.iter().map(|&(name, most)| at_most(name, ours.value(name), most));
    let binary = at_most("init_binary_bytes", whole(binary_bytes), BINARY_MOST);
    let floor = rows.iter().find(|row| row.init == FLOOR);
    let reaping = floor.map(|floor| at_most(REAPING.0, ours.reap_1000_ms / floor.reap_1000_ms, REAPING.1));
    let peers = || rows.iter().filter(|row| row.init != OURS && row.init != FLOOR);
    let races = RACES.iter().filter_map(|&(figure, name)| {
        let first = peers().min_by(|one, other| one.value(figure).total_cmp(&other.value(figure)))?;
        let (value, most) = (ours.value(figure), first.value(figure));
        Some(Aim { name, value, most, peer: Some(first.init.clone()), met: value <= most * TOLERANCE })
    });
    numbers.chain(reaping).chain([binary]).chain(races).collect()
}

/// One line an init, then one an aim.
pub(super) fn table(rows: &[Row], aims: &[Aim]) -> String {
    let heading = std::iter::once("init").chain(COLUMNS.iter().map(|(name, _)| *name));
    let mut cells: Vec<Vec<String>> = vec![heading.map(str::to_owned).collect()];
    for row in rows {
        let figures = COLUMNS.iter().map(|&(name, digits)| {
            let spread = row.spread_percent.get(name).copied().unwrap_or_default();
            let told = if spread >= 0.1 { format!(" ±{:.1}%", spread / 2.0) } else { String::new() };
            format!("{:.digits$}{told}", row.value(name))
        });
        cells.push(std::iter::once(row.init.clone()).chain(figures).collect());
    }
    let mut text = say::table(&cells);
    text.push('\n');
    let mut cells = vec![["aim", "podium", "at most", "", ""].map(str::to_owned).to_vec()];
    for Aim { name, value, most, peer, met } in aims {
        let verdict = if *met { "hit" } else { "MISSED" };
        let peer = peer.clone().unwrap_or_default();
        let words = [(*name).to_owned(), shown(*value), shown(*most), peer, verdict.to_owned()];
        cells.push(words.to_vec());
    }
    text + &say::table(&cells)
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The median, and the distance of the extremes in percent of it.
fn median(mut values: Vec<f64>) -> Result<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).context("nothing was measured")?;
    let middle = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
    let apart = values[last] - values[0];
    Ok((middle, if middle > 0.0 { apart / middle * 100.0 } else { 0.0 }))
}

fn whole(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(init: &str, exec: f64, restart: f64) -> Row {
        let measured = |more: f64| Measured {
            exec_to_service_ms: exec + more,
            restarts_ms: vec![restart, 99.0, restart, restart, restart],
            reap_1000_ms: 76.0,
            pss_anon_kib: 200,
            pss_kib: 1500,
            processes: 2,
            idle_wakeups: 0,
        };
        Row::of(init, &[measured(0.0), measured(0.1), measured(0.02)]).unwrap()
    }

    #[test]
    fn one_slow_restart_of_five_is_not_the_median() {
        let row = row("s6", 10.0, 2.0);
        assert_eq!((row.exec_to_service_ms, row.restart_ms), (10.02, 2.0));
        assert_eq!(row.spread_percent["exec_to_service_ms"], 0.998);
        assert!(Row::of("s6", &[]).is_err());
    }

    #[test]
    fn aims_are_numbers_and_the_best_peer_but_not_the_floor() {
        let rows = [row(OURS, 6.0, 1.2), row(FLOOR, 1.0, 0.5), row("s6", 15.0, 1.0), row("runit", 14.0, 1.8)];
        let aims = aims(&rows, 2 << 20);
        let of = |name: &str| aims.iter().find(|aim| aim.name == name).unwrap();
        assert!(
            of("exec_to_service_ms").met && of("init_binary_bytes").met && of("no peer boots faster").met
        );
        assert_eq!(
            (of("no peer restarts faster").peer.as_deref(), of("no peer restarts faster").met),
            (Some("s6"), false)
        );
        assert!(of("no peer reaps faster").met, "the same time is no lead");
        assert!(of("reaping, by that of bare").met);
        let table = table(&rows, &aims);
        assert!(table.contains("±0.8%") && table.contains("restart_ms"), "{table}");
        let missed = table.lines().filter(|line| line.ends_with("MISSED")).count();
        assert_eq!(missed, 2, "{table}");
    }
}
