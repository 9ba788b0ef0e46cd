//! `gen`: files to begin with. Keys are made here, on the operator's machine, and never overwritten by accident.

use super::now;
use crate::cli::Global;
use crate::fault::Fault;
use crate::{files, say};
use anyhow::Result;
use clap::{Args, Subcommand};
use podium_podiumctl::endpoint::Endpoint;
use podium_podiumctl::pki::{self, Pair};
use podium_podiumctl::talosconfig::{Context, Talosconfig, encode};
use podium_podiumctl::times;
use podium_wire::roles::Role;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Make a machine config, and the keys to operate a node
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Secrets(Secrets),
    Config(Config),
}

/// Make a CA, a machine config that trusts it, and a talosconfig for an admin
///
/// Writes machineconfig.yaml (with the CA's key: keep it secret) and talosconfig (with the admin's key). Give
/// --endpoints with the addresses by which you will reach the node.
#[derive(Debug, Args)]
struct Secrets {
    /// Name of the context in the talosconfig
    #[arg(default_value = "podium")]
    name: String,
    /// Folder for the two files
    #[arg(short, long, value_name = "FOLDER", default_value = ".")]
    output_dir: PathBuf,
    /// Further names and addresses of the node, for its certificate
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    additional_sans: Vec<String>,
    /// How long the admin's certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = times::parse)]
    crt_ttl: Duration,
    /// Overwrite the files
    #[arg(long)]
    force: bool,
}

/// Print a machine config to begin with
///
/// Without a CA the node has no network API; --with-secrets takes the CA of another machine config.
#[derive(Debug, Args)]
struct Config {
    /// Write it to this file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A machine config whose CA this node shall have, too
    #[arg(long, value_name = "FILE")]
    with_secrets: Option<String>,
    /// Names and addresses of the node, for its certificate
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    additional_sans: Vec<String>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Secrets(arguments) => secrets(global, arguments),
        What::Config(arguments) => config(arguments),
    }
}

fn secrets(global: &Global, arguments: &Secrets) -> Result<()> {
    let machine = arguments.output_dir.join("machineconfig.yaml");
    let client = arguments.output_dir.join("talosconfig");
    // Both or none: a talosconfig without its machine config is of no use.
    if let Some(path) = [&machine, &client].into_iter().find(|path| path.exists() && !arguments.force) {
        return Err(files::exists(path).into());
    }
    let hosts = check_endpoints(&global.endpoints)?.into_iter().map(|endpoint| endpoint.host);
    let now = now();
    let ca = pki::new_ca(now).map_err(Fault::new)?;
    let admin = pki::new_client(&ca, Role::Admin, now, arguments.crt_ttl).map_err(Fault::new)?;
    let names: Vec<String> = hosts.chain(arguments.additional_sans.iter().cloned()).collect();
    let context = context(&ca.crt, &admin, global.endpoints.clone());
    let file = Talosconfig {
        context: arguments.name.clone(),
        contexts: [(arguments.name.clone(), context)].into(),
        ..Talosconfig::default()
    };
    let ca = (encode(&ca.crt), encode(&ca.key));
    files::write_secret(&machine, &machine_config(Some((&ca.0, &ca.1)), &names), arguments.force)?;
    files::write_secret(&client, &file.to_text().map_err(Fault::new)?, arguments.force)?;
    say::note(&format!("{}: a machine config with a new CA and its key", machine.display()));
    say::note(&format!("{}: context {} for an admin", client.display(), arguments.name));
    if global.endpoints.is_empty() {
        note_endpoint(&client);
    }
    Ok(())
}

/// What has to follow when a talosconfig was made that reaches no node.
pub(super) fn note_endpoint(talosconfig: &Path) {
    say::note(&format!("next: podiumctl --talosconfig {} config endpoint ADDRESS", talosconfig.display()));
}

/// Reads addresses before they get into a file.
///
/// # Errors
/// The first that is none.
pub(super) fn check_endpoints(addresses: &[String]) -> Result<Vec<Endpoint>, Fault> {
    addresses.iter().map(|one| Endpoint::parse(one).map_err(Fault::usage)).collect()
}

fn config(arguments: &Config) -> Result<()> {
    let ca = arguments.with_secrets.as_deref().map(read_ca).transpose()?;
    let ca = ca.as_ref().map(|pair| (encode(&pair.crt), encode(&pair.key)));
    let ca = ca.as_ref().map(|(crt, key)| (crt.as_str(), key.as_str()));
    let text = machine_config(ca, &arguments.additional_sans);
    match &arguments.output {
        Some(path) => files::write_secret(path, &text, arguments.force),
        None => say::data(text),
    }
}

/// A context with what one client needs.
pub(super) fn context(ca: &str, client: &Pair, endpoints: Vec<String>) -> Context {
    let (ca, crt, key) = (encode(ca), encode(&client.crt), encode(&client.key));
    Context { endpoints, ca, crt, key, ..Context::default() }
}

/// The CA in a machine config's file.
///
/// # Errors
/// There is none.
pub(super) fn read_ca(path: &str) -> Result<Pair> {
    ca_of(&files::read_text(path)?, path)
}

/// The CA in a machine config; `name` is what it is called in an error.
///
/// # Errors
/// There is none.
pub(super) fn ca_of(text: &str, name: &str) -> Result<Pair> {
    let value: serde_json::Value =
        serde_yaml::from_str(text).map_err(|error| Fault::new(format!("{name} is no YAML: {error}")))?;
    let ca = &value["machine"]["ca"];
    let field = |key: &str| ca[key].as_str().unwrap_or_default().to_owned();
    let context = Context { crt: field("crt"), key: field("key"), ..Context::default() };
    let pem = context.pem().map_err(|error| Fault::new(format!("{name}: machine.ca: {error}")))?;
    match (pem.crt, pem.key) {
        (Some(crt), Some(key)) => Ok(Pair { crt, key }),
        _ => Err(Fault::new(format!("{name} has no machine.ca with crt and key"))
            .remedy("take the machineconfig.yaml that podiumctl gen secrets made")
            .into()),
    }
}

fn machine_config(ca: Option<(&str, &str)>, names: &[String]) -> String {
    let mut text = "# The machine config of a Podium node. podiumctl validate -f FILE checks it.\nversion: v1alpha1\nmachine:\n".to_owned();
    if let Some((crt, key)) = ca {
        text.push_str(&format!(
            "  # Who may operate the node: clients whose certificate this CA has signed. The key is secret.\n  ca:\n    crt: {crt}\n    key: {key}\n"
        ));
    }
    if !names.is_empty() {
        text.push_str("  # Names and addresses in the node's certificate, beside those that it finds on itself.\n  certSANs:\n");
        names
            .iter()
            .for_each(|name| text.push_str(&format!("    - {}\n", serde_json::Value::from(name.as_str()))));
    }
    text.push_str(
        "  # The static pods that the node runs, as in a Kubernetes manifest.\n  pods: []\n  # pods:\n  #   - apiVersion: v1\n  #     kind: Pod\n  #     metadata: {name: nginx}\n  #     spec: {containers: [{name: nginx, image: nginx}]}\n",
    );
    text
}

/// Where a file of a person is, for an error.
pub(super) fn check_new(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force { Err(files::exists(path).into()) } else { Ok(()) }
}
