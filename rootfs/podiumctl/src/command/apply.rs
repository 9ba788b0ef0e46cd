//! `apply-config`, and the way of every changed config to the nodes: a dry run whose diff and problems are shown, then
//! the change itself, unless a node refused it.

use crate::cli::Global;
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::{files, say};
use anyhow::Result;
use clap::{Args, ValueEnum};
use podium_init::config;
use podium_podiumctl::listing::node_name;
use podium_podiumctl::{diff, patch, problems, times};
use podium_wire::machine::{self, ApplyConfigurationRequest, apply_configuration_request};
use std::time::Duration;
use tonic::Code;

/// Give nodes a new machine config
///
/// First the nodes are asked what would change (a dry run): the diff goes to standard output, every problem with its
/// line to standard error. Only when all nodes take the config it is applied.
///
///   podiumctl apply-config -f node.yaml --dry-run
///   podiumctl apply-config -f node.yaml
///   podiumctl apply-config -f node.yaml --mode try --timeout 2m
///   podiumctl apply-config --insecure -n 10.0.0.2 -f node.yaml --cert-fingerprint FINGERPRINT
///
/// A node without a config (maintenance mode) is reached by --insecure; it shows its fingerprint on its console.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The machine config, - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// Change it by this patch first, YAML, JSON or @FILE (may be given again)
    #[arg(short = 'p', long, value_name = "PATCH")]
    config_patch: Vec<String>,
    #[command(flatten)]
    change: ChangeArguments,
    /// To a node in maintenance mode, without a certificate (needs --nodes)
    #[arg(short, long)]
    insecure: bool,
    /// With --insecure: fingerprints of the node's certificate that are accepted (without it: any)
    #[arg(long, value_delimiter = ',', value_name = "FINGERPRINT", requires = "insecure")]
    cert_fingerprint: Vec<String>,
}

/// How a config is changed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArguments {
    /// How to apply it
    #[arg(short, long, value_enum, default_value_t = Mode::Auto)]
    pub(crate) mode: Mode,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --mode try: after this the old config comes back
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = times::parse)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// At once; with a reboot if it needs one
    Auto,
    /// At once; refused if it needs a reboot
    NoReboot,
    /// At the next boot
    Staged,
    /// At once and for --timeout only
    Try,
    /// With a reboot
    Reboot,
}

impl Mode {
    fn wire(self) -> apply_configuration_request::Mode {
        match self {
            Self::Auto => apply_configuration_request::Mode::Auto,
            Self::NoReboot => apply_configuration_request::Mode::NoReboot,
            Self::Staged => apply_configuration_request::Mode::Staged,
            Self::Try => apply_configuration_request::Mode::Try,
            Self::Reboot => apply_configuration_request::Mode::Reboot,
        }
    }
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<()> {
    let text = files::read_text(&arguments.file)?;
    if text.trim().is_empty() {
        return Err(Fault::new(format!("{} is empty", arguments.file)).into());
    }
    let patches = files::read_patches(&arguments.config_patch)?;
    let text = patch::apply(&text, &patches).map_err(Fault::new)?;
    let session = if arguments.insecure {
        Session::insecure(global, &arguments.cert_fingerprint)?
    } else {
        Session::new(global)?
    };
    let name = if arguments.file == "-" { "standard input" } else { &arguments.file };
    let change = Change { text, name: name.to_owned(), how: arguments.change };
    if !change.refusals(&session, true).await?.is_empty() {
        return Err(say::Said.into());
    }
    change.apply(&session).await
}

/// A config on its way to nodes.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) text: String,
    /// What the text is called in problems.
    pub(crate) name: String,
    pub(crate) how: ChangeArguments,
}

impl Change {
    /// Asks all nodes; shows problems, and with `show_diff` what would change. Why nodes refuse it, in their words, whole
    /// again where they cut them; none when all take it.
    ///
    /// # Errors
    /// A node has not answered.
    pub(crate) async fn refusals(&self, session: &Session, show_diff: bool) -> Result<Vec<String>> {
        let answers = self.send(session, true).await?;
        let plural = session.is_plural();
        let mut refusals = Vec::new();
        for (node, answer) in answers {
            match answer {
                Ok(messages) => {
                    for message in messages {
                        self.warnings(&message);
                        if show_diff && !message.mode_details.trim().is_empty() {
                            let head = if plural { format!("# {node}\n") } else { String::new() };
                            let shown = diff::coloured(message.mode_details.trim_end(), say::on_stdout());
                            say::data(format!("{head}{shown}"))?;
                        }
                    }
                }
                Err(refusal) => {
                    let refusal = problems::uncut(&refusal, &self.known());
                    self.refused(&node, &refusal, "nothing has changed on it");
                    refusals.push(refusal);
                }
            }
        }
        session.verdict()?;
        Ok(refusals)
    }

    /// Applies it, unless it was only to be tried.
    ///
    /// # Errors
    /// One of the nodes has not taken it; the others have been told to all the same.
    pub(crate) async fn apply(&self, session: &Session) -> Result<()> {
        if self.how.dry_run {
            say::note("dry run: nothing has been applied");
            return Ok(());
        }
        let mut is_done = true;
        for (node, answer) in self.send(session, false).await? {
            match answer {
                Ok(messages) => {
                    for message in messages {
                        let details = message.mode_details.trim();
                        let details =
                            if details.is_empty() { "the config has been applied" } else { details };
                        let name = node_name(message.metadata.as_ref(), &node);
                        details.lines().for_each(|line| say::note(&format!("{name}: {line}")));
                    }
                }
                Err(refusal) => {
                    // It took it a moment ago: what it has done since only it can say.
                    let remedy =
                        "its words say what has changed; podiumctl get machineconfig shows what is in force";
                    self.refused(&node, &problems::uncut(&refusal, &self.known()), remedy);
                    is_done = false;
                }
            }
        }
        session.verdict()?;
        if is_done { Ok(()) } else { Err(say::Said.into()) }
    }

    /// What each node says: its messages, or in words why it refuses the config.
    async fn send(
        &self,
        session: &Session,
        dry_run: bool,
    ) -> Result<Vec<(String, Result<Vec<machine::ApplyConfiguration>, String>)>> {
        let request = ApplyConfigurationRequest {
            data: self.text.clone().into_bytes(),
            mode: self.how.mode.wire().into(),
            dry_run,
            try_mode_timeout: prost_types::Duration::try_from(self.how.timeout).ok(),
        };
        let ask = move |node: Node| {
            let request = request.clone();
            async move {
                match node.machine().apply_configuration(request).await {
                    Ok(reply) => Ok(Ok(reply.into_inner().messages)),
                    Err(status)
                        if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) =>
                    {
                        Ok(Err(status.message().to_owned()))
                    }
                    Err(status) => Err(node.fault("ApplyConfiguration", &status)),
                }
            }
        };
        session.each(ask).await
    }

    /// What this program's own parser finds in the text.
    fn known(&self) -> Vec<config::Problem> {
        config::parse(self.text.as_bytes()).problems
    }

    fn warnings(&self, message: &machine::ApplyConfiguration) {
        let known = self.known();
        for warning in &message.warnings {
            let (found, others) = problems::from_message(warning, &known);
            self.show(&found);
            others.iter().for_each(|line| say::warn(line));
        }
    }

    fn refused(&self, node: &str, refusal: &str, remedy: &str) {
        let (found, others) = problems::from_message(refusal, &self.known());
        self.show(&found);
        let what = if others.is_empty() { "the config has problems".to_owned() } else { others.join("\n  ") };
        let fault = Fault::new(format!("{node} refuses the config: {what}"));
        // A node may have said it already.
        say::fault(&if what.contains("nothing has changed") { fault } else { fault.remedy(remedy) });
    }

    fn show(&self, found: &[config::Problem]) {
        let source = problems::Source::new(&self.name, &self.text);
        for problem in found {
            say::painted(&problems::show(problem, &source, say::on_stderr()));
        }
    }
}
