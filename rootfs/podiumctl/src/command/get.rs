//! `get`: resources of the state service. The types, their names and columns come from the nodes; `-w` shows what
//! changes as the nodes push it.

use crate::cli::{Global, Output};
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::{cli, say};
use anyhow::Result;
use clap::Args;
use podium_podiumctl::output::{self, Format};
use podium_podiumctl::resource::{self, Columns};
use podium_podiumctl::table::Table;
use podium_wire::cosi::{
    Event, EventType, GetRequest, ListRequest, Resource, ResourceDefinitionSpec, WatchOptions, WatchRequest,
};
use podium_wire::resources::RESOURCE_DEFINITIONS;
use prost::Message;

/// Show resources of nodes: static pods, their status, services, the machine config
///
/// TYPE is a resource type or one of its short names, in any case: staticpods, staticpodstatus (podstatus), services,
/// machineconfig (mc), nodestatus, rd. `podiumctl get rd` lists all that a node has.
///
///   podiumctl get staticpods
///   podiumctl get staticpodstatus default/nginx-node-1 -o yaml
///   podiumctl get podstatus -w
#[derive(Debug, Args)]
#[command(visible_alias = "g", verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Type of the resources
    r#type: String,
    /// Only the one with this id
    id: Option<String>,
    /// Namespace of the resources (without it: the type's own)
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Go on: show what is created (+), updated and destroyed (-)
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<()> {
    let session = Session::new(global)?;
    let lists = session.each(definitions).await?;
    // A type of one node may be unknown to another: the first that knows it tells its columns.
    let mut found = Err(String::new());
    for (_, definitions) in &lists {
        found = resource::find(definitions, &arguments.r#type);
        if found.is_ok() {
            break;
        }
    }
    let definition = found.map_err(Fault::usage)?.clone();
    let namespace = arguments.namespace.clone().unwrap_or_else(|| definition.default_namespace.clone());
    let mut printer = Printer::new(&definition, arguments.watch, arguments.output.output)?;
    if arguments.watch {
        let request = WatchRequest {
            namespace,
            r#type: definition.resource_type.clone(),
            id: arguments.id.clone(),
            options: Some(WatchOptions {
                bootstrap_contents: arguments.id.is_none(),
                ..WatchOptions::default()
            }),
            api_version: 1,
        };
        return watch(&session, request, printer).await;
    }
    let kind = definition.resource_type;
    let answers = session
        .each(move |node| {
            let (namespace, kind, id) = (namespace.clone(), kind.clone(), arguments.id.clone());
            async move {
                match id {
                    Some(id) => one(&node, namespace, kind, id).await,
                    None => list(&node, namespace, kind).await,
                }
            }
        })
        .await?;
    for (node, resources) in answers {
        for resource in resources {
            printer.add(&node, None, &resource);
        }
    }
    printer.flush(true)?;
    session.verdict()
}

/// The types that a node has.
pub(crate) async fn definitions(node: Node) -> Result<Vec<ResourceDefinitionSpec>, Fault> {
    let resources = list(&node, "meta".to_owned(), RESOURCE_DEFINITIONS.to_owned()).await?;
    let decode = |resource: Resource| {
        let bytes = resource.spec.map(|spec| spec.proto_spec).unwrap_or_default();
        ResourceDefinitionSpec::decode(bytes.as_slice()).map_err(|error| {
            Fault::new(format!("{}: a resource definition that is none: {error}", node.name))
        })
    };
    resources.into_iter().map(decode).collect()
}

/// All resources of a type.
pub(crate) async fn list(node: &Node, namespace: String, kind: String) -> Result<Vec<Resource>, Fault> {
    let request = ListRequest { namespace, r#type: kind, options: None };
    let fault = |status: tonic::Status| node.fault("List", &status);
    let mut stream = node.state().list(request).await.map_err(fault)?.into_inner();
    let mut resources = Vec::new();
    while let Some(message) = stream.message().await.map_err(fault)? {
        resources.extend(message.resource);
    }
    Ok(resources)
}

/// One resource.
pub(crate) async fn one(
    node: &Node,
    namespace: String,
    kind: String,
    id: String,
) -> Result<Vec<Resource>, Fault> {
    let request = GetRequest { namespace, r#type: kind, id, options: None };
    let answer = node.state().get(request).await.map_err(|status| node.fault("Get", &status))?;
    Ok(answer.into_inner().resource.into_iter().collect())
}

async fn watch(session: &Session, request: WatchRequest, mut printer: Printer) -> Result<()> {
    // What was there at the beginning is shown at once, so that its columns fit.
    let mut bootstrapped = request.id.is_some();
    let open = move |node: Node| {
        let request = request.clone();
        async move { node.state().watch(request).await }
    };
    session
        .follow("Watch", open, |node, message| {
            for event in message.event {
                let kind = event.event_type();
                match kind {
                    EventType::Errored => {
                        let error = event.error.unwrap_or_default();
                        session.fail(&Fault::new(format!("{node}: the watch has ended: {error}")));
                    }
                    EventType::Bootstrapped => bootstrapped = true,
                    EventType::Noop => {}
                    EventType::Created | EventType::Updated | EventType::Destroyed => {
                        let Event { resource: Some(resource), .. } = event else { continue };
                        printer.add(node, Some(kind), &resource);
                    }
                }
            }
            if bootstrapped { printer.flush(true) } else { Ok(()) }
        })
        .await?;
    Err(Fault::new("the node has ended the watch").into())
}

/// Prints resources as they come.
struct Printer {
    format: Format,
    columns: Columns,
    table: Table,
    rows: Vec<Vec<String>>,
    texts: String,
    first: bool,
}

impl Printer {
    fn new(definition: &ResourceDefinitionSpec, watch: bool, format: cli::Format) -> Result<Self> {
        let columns = Columns::new(definition, watch).map_err(Fault::new)?;
        let table = Table::new(columns.header());
        Ok(Self {
            format: format.into(),
            columns,
            table,
            rows: Vec::new(),
            texts: String::new(),
            first: true,
        })
    }

    fn add(&mut self, node: &str, event: Option<EventType>, resource: &Resource) {
        match self.format {
            Format::Table => {
                self.rows.push(self.columns.row(node, event.unwrap_or(EventType::Noop), resource));
            }
            Format::Yaml => {
                if !std::mem::take(&mut self.first) {
                    self.texts.push_str("---\n");
                }
                self.texts.push_str(&resource::yaml(node, event, resource));
            }
            Format::Json => self.texts.push_str(&output::json(&resource::json(node, event, resource))),
        }
    }

    fn flush(&mut self, header: bool) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut text = std::mem::take(&mut self.texts);
        if self.format == Format::Table && (header || !rows.is_empty()) {
            text.push_str(&self.table.render(&rows));
        }
        if text.is_empty() { Ok(()) } else { say::data(text) }
    }
}
