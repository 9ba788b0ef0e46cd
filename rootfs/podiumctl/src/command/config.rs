//! `config`: the talosconfig file. It is talosctl's own, and stays readable for it.

use super::{generate, get, now};
use crate::cli::Global;
use crate::client::Session;
use crate::fault::Fault;
use crate::{files, say};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use podium_podiumctl::output::{self, Format, Listing};
use podium_podiumctl::talosconfig::{Context, Talosconfig, encode};
use podium_podiumctl::{pki, resource, times};
use podium_wire::resources::MACHINE_CONFIGS;
use podium_wire::roles::Role;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Manage the client configuration file (talosconfig)
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the contexts
    #[command(visible_alias = "get-contexts")]
    Contexts {
        #[command(flatten)]
        output: crate::cli::Output,
    },
    /// Choose the context that is used
    #[command(visible_alias = "use-context")]
    Context {
        /// Its name
        name: String,
    },
    /// Show the current context: nodes, endpoints, role, end of the certificate
    Info {
        /// How to show it
        #[arg(short, long, value_enum, default_value_t = InfoFormat::Text)]
        output: InfoFormat,
    },
    /// Add a context
    Add {
        /// Its name
        name: String,
        /// File with the CA's certificate, PEM
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// File with the client's certificate, PEM
        #[arg(long, value_name = "FILE", requires = "key")]
        crt: Option<PathBuf>,
        /// File with the client's key, PEM
        #[arg(long, value_name = "FILE", requires = "crt")]
        key: Option<PathBuf>,
    },
    /// Remove a context
    Remove {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short = 'y', long)]
        noconfirm: bool,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the contexts of another talosconfig over; one whose name is taken gets a new name
    Merge {
        /// The other file
        file: PathBuf,
    },
    /// Set the nodes that are meant when --nodes is not given (none: the endpoint itself)
    #[command(visible_alias = "nodes")]
    Node {
        /// Their addresses
        #[arg(value_name = "ADDRESS")]
        addresses: Vec<String>,
    },
    /// Set the addresses that are dialled when --endpoints is not given
    #[command(visible_alias = "endpoints")]
    Endpoint {
        /// HOST or HOST:PORT
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,
    },
    New(New),
}

/// Make a talosconfig for another client, of a lower role or with a new certificate
///
/// The CA's key is taken from the machine config in --from, else from the node (os:admin). It stays there: the new file
/// holds only the client's own key.
#[derive(Debug, Args)]
struct New {
    /// File to write
    #[arg(default_value = "talosconfig")]
    path: PathBuf,
    /// Role of the client: os:reader, os:operator, os:admin
    #[arg(long, default_value = "os:admin", value_parser = role, value_name = "ROLE")]
    roles: Role,
    /// How long its certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = times::parse)]
    crt_ttl: Duration,
    /// Machine config with the CA and its key
    #[arg(long, value_name = "FILE")]
    from: Option<String>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InfoFormat {
    Text,
    Json,
    Yaml,
}

fn role(word: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::organization).join(", ");
    Role::ALL
        .into_iter()
        .find(|role| role.organization() == word)
        .ok_or_else(|| format!("roles are {}", names()))
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<()> {
    match arguments.what {
        What::Contexts { output } => contexts(global, output.output.into()),
        What::Context { name } => change(global, |file| {
            file.context(Some(&name)).map_err(Fault::new)?;
            file.context = name;
            Ok(())
        }),
        What::Info { output } => info(global, output),
        What::Add { name, ca, crt, key } => {
            let read = |path: Option<PathBuf>| match path {
                Some(path) => std::fs::read_to_string(&path)
                    .map(|pem| encode(&pem))
                    .with_context(|| format!("read {}", path.display())),
                None => Ok(String::new()),
            };
            let context = Context { ca: read(ca)?, crt: read(crt)?, key: read(key)?, ..Context::default() };
            change(global, |file| {
                if file.contexts.contains_key(&name) {
                    let fault = Fault::new(format!("there is a context {name:?} already"));
                    return Err(fault.remedy("choose another name, or remove it first").into());
                }
                file.contexts.insert(name, context);
                Ok(())
            })
        }
        What::Remove { name, noconfirm, dry_run } => remove(global, &name, noconfirm, dry_run),
        What::Merge { file: other } => {
            let text =
                std::fs::read_to_string(&other).with_context(|| format!("read {}", other.display()))?;
            let other = Talosconfig::parse(&text)
                .map_err(|error| Fault::new(format!("{}: {error}", other.display())))?;
            change(global, |file| {
                for (old, new) in file.merge(other) {
                    say::note(&format!("renamed context {old:?} to {new:?}"));
                }
                Ok(())
            })
        }
        What::Node { addresses } => change(global, |file| {
            current(global, file)?.nodes = trimmed(&addresses);
            Ok(())
        }),
        What::Endpoint { addresses } => {
            let addresses = trimmed(&addresses);
            generate::check_endpoints(&addresses)?;
            if addresses.is_empty() {
                return Err(Fault::usage("no endpoint is given: write HOST or HOST:PORT").into());
            }
            change(global, |file| {
                current(global, file)?.endpoints = addresses;
                Ok(())
            })
        }
        What::New(arguments) => new(global, arguments).await,
    }
}

fn contexts(global: &Global, format: Format) -> Result<()> {
    let file = files::read_talosconfig(global)?;
    let mut listing = Listing::new(&["CURRENT", "NAME", "ENDPOINTS", "NODES"]);
    for (name, context) in &file.contexts {
        let is_current = *name == file.context;
        let more = if context.nodes.len() > 3 { "..." } else { "" };
        let nodes: Vec<&str> = context.nodes.iter().take(3).map(String::as_str).collect();
        let current = if is_current { "*" } else { "" };
        listing.push(
            vec![current.into(), name.clone(), context.endpoints.join(","), nodes.join(",") + more],
            json!({"current": is_current, "name": name, "endpoints": context.endpoints, "nodes": context.nodes}),
        );
    }
    say::data(listing.render(format))
}

fn info(global: &Global, format: InfoFormat) -> Result<()> {
    let file = files::read_talosconfig(global)?;
    let (name, context) = file.context(global.context.as_deref()).map_err(Fault::new)?;
    let crt = context.pem().map_err(|error| Fault::new(format!("context {name}: {error}")))?.crt;
    let facts = crt.map(|crt| pki::facts(&crt)).transpose();
    let facts = facts.map_err(|error| Fault::new(format!("context {name}: its crt: {error}")))?;
    let ends = facts.as_ref().map(|facts| (facts.not_after.date().to_string(), left(facts.not_after)));
    let roles = facts.map(|facts| facts.roles).unwrap_or_default();
    let value = json!({
        "context": name, "nodes": context.nodes, "endpoints": context.endpoints, "roles": roles,
        "certNotAfter": ends.as_ref().map(|(date, _)| date), "certTTL": ends.as_ref().map(|(_, left)| left),
    });
    let listed = |list: &[String]| if list.is_empty() { "not defined".to_owned() } else { list.join(", ") };
    say::data(match format {
        InfoFormat::Json => output::json(&value),
        InfoFormat::Yaml => output::yaml(&value),
        InfoFormat::Text => {
            let mut text = format!(
                "Current context:     {name}\nNodes:               {}\nEndpoints:           {}\n",
                listed(&context.nodes),
                listed(&context.endpoints)
            );
            if let Some((date, left)) = ends {
                text.push_str(&format!("Roles:               {}\n", listed(&roles)));
                text.push_str(&format!("Certificate expires: {left} ({date})\n"));
            }
            text
        }
    })
}

/// `364 days from now`, or how long ago.
fn left(end: time::OffsetDateTime) -> String {
    let left = end - now();
    let direction = if left.is_negative() { "ago" } else { "from now" };
    let hours = left.whole_hours().abs();
    let amount = if hours < 48 { format!("{hours} hours") } else { format!("{} days", hours / 24) };
    format!("{amount} {direction}")
}

fn remove(global: &Global, name: &str, noconfirm: bool, dry_run: bool) -> Result<()> {
    let (path, mut file) = files::open_talosconfig(global)?;
    file.context(Some(name)).map_err(Fault::new)?;
    if file.context == name && file.contexts.len() > 1 {
        let fault = Fault::new(format!("{name:?} is the current context"));
        return Err(fault.remedy("choose another one first: podiumctl config context NAME").into());
    }
    if dry_run {
        say::note(&format!("context {name:?} would be removed from {}", path.display()));
        return Ok(());
    }
    if !noconfirm && !agreed(&format!("remove context {name:?} from {}", path.display()))? {
        return Err(Fault::new("nothing has been removed").into());
    }
    file.contexts.remove(name);
    if file.context == name {
        file.context.clear();
    }
    files::save_talosconfig(&path, &file)
}

/// Asks the person. Who cannot be asked has not agreed.
fn agreed(what: &str) -> Result<bool> {
    say::note(&format!("{what}? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn new(global: &Global, arguments: New) -> Result<()> {
    generate::check_new(&arguments.path, arguments.force)?;
    generate::check_endpoints(&global.endpoints)?;
    let (ca, name, mut endpoints) = match &arguments.from {
        Some(path) => (generate::read_ca(path)?, "podium".to_owned(), Vec::new()),
        None => {
            let file = files::read_talosconfig(global)?;
            let (name, context) = file.context(global.context.as_deref()).map_err(Fault::new)?;
            let node = Session::new(global)?.only().await?;
            let found = get::one(&node, "config".into(), MACHINE_CONFIGS.into(), "v1alpha1".into()).await?;
            let spec = found.first().map(resource::spec_value).unwrap_or_default();
            let text = spec.as_str().map_or_else(|| spec.to_string(), str::to_owned);
            (generate::ca_of(&text, "the node's config")?, name.to_owned(), context.endpoints.clone())
        }
    };
    if !global.endpoints.is_empty() {
        endpoints.clone_from(&global.endpoints);
    }
    let client = pki::new_client(&ca, arguments.roles, now(), arguments.crt_ttl).map_err(Fault::new)?;
    let has_endpoint = !endpoints.is_empty();
    let context = generate::context(&ca.crt, &client, endpoints);
    let contexts = [(name.clone(), context)].into();
    let file = Talosconfig { context: name.clone(), contexts, ..Talosconfig::default() };
    files::write_secret(&arguments.path, &file.to_text().map_err(Fault::new)?, arguments.force)?;
    let role = arguments.roles.organization();
    say::note(&format!("{}: context {name} for {role}", arguments.path.display()));
    if !has_endpoint {
        generate::note_endpoint(&arguments.path);
    }
    Ok(())
}

/// Reads the file, changes it, writes it.
fn change(global: &Global, act: impl FnOnce(&mut Talosconfig) -> Result<()>) -> Result<()> {
    let (path, mut file) = files::open_talosconfig(global)?;
    act(&mut file)?;
    files::save_talosconfig(&path, &file)
}

fn current<'a>(global: &Global, file: &'a mut Talosconfig) -> Result<&'a mut Context> {
    let name = file.context(global.context.as_deref()).map_err(Fault::new)?.0.to_owned();
    file.contexts.get_mut(&name).ok_or_else(|| Fault::new(format!("there is no context {name:?}")).into())
}

fn trimmed(words: &[String]) -> Vec<String> {
    let words = words.iter().flat_map(|word| word.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
