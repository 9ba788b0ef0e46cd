//! `bench manifests`: from pods of a config to files, without a kubelet.

use crate::{doctor, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Measure how long 1 to 10,000 pods take from config to files (release build).
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// One line of the manifests' measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rendered {
    pods: u64,
    render_ms: f64,
    write_ms: f64,
}

/// Runs the measurement.
///
/// # Errors
/// It did not build, or measured nothing.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    let mut cargo = crate::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "podium-init",
        "--example",
        "bench_manifests",
    ]);
    let output = say::phase("rendering 1 to 10,000 pods", || podium_image::run::capture(&mut cargo))?;
    let rows: Vec<Rendered> = serde_json::from_str(&output).context("what bench_manifests printed")?;
    ensure!(!rows.is_empty(), "bench_manifests measured nothing");
    if arguments.json {
        return say::json(&rows);
    }
    let mut cells = vec![["pods", "render ms", "write ms"].map(str::to_owned).to_vec()];
    for row in &rows {
        cells.push(vec![
            row.pods.to_string(),
            format!("{:.2}", row.render_ms),
            format!("{:.2}", row.write_ms),
        ]);
    }
    print!("{}", say::table(&cells));
    println!("aim: 1,000 pods under 1,000 ms, growing linearly");
    Ok(())
}
