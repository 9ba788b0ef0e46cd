//! The words of the command line: talosctl's verbs and flags. What each does is in `command/`.

use crate::command::{
    apply, completion, config, dashboard, edit, events, files, generate, get, health, logs, pods, power,
    services, system, validate,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use podium_podiumctl::output;
use std::path::PathBuf;

/// Operate Podium nodes over their API.
///
/// Nodes are reached by a talosconfig file: --talosconfig, else $TALOSCONFIG, else ~/.talos/config. `podiumctl gen
/// secrets` makes one together with a machine config; a node that has no config yet is given it by `podiumctl
/// apply-config --insecure`.
///
/// Data goes to standard output, everything else to standard error. Exit code: 0 done, 1 failed, 2 the command line was
/// not understood. NO_COLOR turns colours off.
#[derive(Debug, Parser)]
#[command(
    name = "podiumctl",
    version,
    after_help = "\
A first session with a new node at 10.0.0.2:
  podiumctl gen secrets --endpoints 10.0.0.2    makes machineconfig.yaml and talosconfig
  podiumctl validate -f machineconfig.yaml      after you have written your pods into it
  podiumctl apply-config --insecure -n 10.0.0.2 -f machineconfig.yaml
  podiumctl config merge talosconfig
  podiumctl get staticpodstatus -w"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which nodes are meant.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Nodes")]
pub(crate) struct Global {
    /// Nodes to ask, separated by commas (without it: those of the context, else its first endpoint)
    #[arg(short, long, global = true, value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) nodes: Vec<String>,
    /// Addresses to dial instead of the context's, HOST or HOST:PORT, separated by commas
    #[arg(short, long, global = true, value_delimiter = ',', value_name = "ADDRESS")]
    pub(crate) endpoints: Vec<String>,
    /// Context of the talosconfig to use instead of its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Client configuration file (without it: $TALOSCONFIG, then ~/.talos/config)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) talosconfig: Option<PathBuf>,
}

/// How data is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// YAML documents
    Yaml,
    /// JSON objects, one after another
    Json,
}

impl From<Format> for output::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => Self::Table,
            Format::Yaml => Self::Yaml,
            Format::Json => Self::Json,
        }
    }
}

/// `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Which containers.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Namespace {
    /// Those of Kubernetes pods, not the node's own services
    #[arg(short, long)]
    pub(crate) kubernetes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Arguments),
    #[command(visible_alias = "c")]
    Containers(pods::Containers),
    Stats(pods::Stats),
    Logs(logs::Logs),
    Dmesg(logs::Dmesg),
    #[command(visible_alias = "services")]
    Service(services::Arguments),
    #[command(visible_alias = "apply")]
    ApplyConfig(apply::Arguments),
    Edit(edit::Edit),
    Patch(edit::Patch),
    Validate(validate::Arguments),
    Gen(generate::Arguments),
    Config(config::Arguments),
    Version(system::VersionArguments),
    Events(events::Arguments),
    Health(health::Arguments),
    Reboot(power::Reboot),
    Shutdown(power::Shutdown),
    Reset(power::Reset),
    #[command(visible_aliases = ["p", "ps"])]
    Processes(system::Processes),
    #[command(visible_aliases = ["m", "free"])]
    Memory(system::Memory),
    #[command(visible_alias = "mount")]
    Mounts(system::Mounts),
    #[command(visible_alias = "ls")]
    List(files::List),
    #[command(visible_alias = "du")]
    Usage(files::Usage),
    #[command(visible_alias = "cat")]
    Read(files::Read),
    Dashboard(dashboard::Arguments),
    Completion(completion::Arguments),
}
