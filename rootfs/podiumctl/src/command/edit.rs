//! `edit` and `patch`: the machine config that a node has, changed by hand or by a patch, and given back.

use super::apply::{Change, ChangeArguments};
use super::get;
use crate::cli::Global;
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::{files, say};
use anyhow::{Context, Result};
use clap::Args;
use podium_podiumctl::{diff, patch, resource};
use podium_wire::cosi::Resource;
use podium_wire::resources::{Definition, MACHINE_CONFIGS};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What the config is called in the editor and in problems.
const FILE: &str = "machineconfig.yaml";
/// What is put before a refused config in the editor.
const REFUSED: &str = "# Refused; mend it below, or leave it as it is to give up:";
/// And behind the reasons, so that comments of the config itself are told from them.
const BELOW: &str = "# ---- the config begins below this line ----";

/// Change the machine config of a node in an editor
///
/// The editor is $TALOS_EDITOR, $EDITOR, or vi. A config that the node refuses comes back with the reasons above it. When
/// somebody else has changed the node's config meanwhile nothing is applied; what was written and not applied is kept in
/// a file.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    #[command(flatten)]
    config: ConfigName,
    #[command(flatten)]
    change: ChangeArguments,
}

/// Change the machine config of nodes by a patch
///
/// A mapping is a merge patch (RFC 7396: null removes a key), a list a JSON patch (RFC 6902), both as YAML or JSON.
///
///   podiumctl patch mc -p '{machine: {sysctls: {kernel.panic: "10"}}}'
///   podiumctl patch mc -p '[{op: remove, path: /machine/pods/0}]' --dry-run
///   podiumctl patch mc -p @change.yaml --mode no-reboot
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Patch {
    #[command(flatten)]
    config: ConfigName,
    /// The patch, or @FILE (may be given again)
    #[arg(short, long, value_name = "PATCH")]
    patch: Vec<String>,
    /// A file with the patch (may be given again)
    #[arg(long, value_name = "FILE")]
    patch_file: Vec<String>,
    #[command(flatten)]
    change: ChangeArguments,
}

/// talosctl's words for the one thing that can be changed.
#[derive(Debug, Args)]
struct ConfigName {
    /// What to change: machineconfig (mc)
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Its id
    #[arg(default_value = "v1alpha1")]
    id: String,
}

impl ConfigName {
    fn check(&self) -> Result<()> {
        match Definition::find(&self.kind) {
            Some(definition) if definition.kind == MACHINE_CONFIGS => Ok(()),
            _ => Err(Fault::usage(format!("{:?} cannot be changed", self.kind))
                .remedy("the machine config can: podiumctl edit machineconfig")
                .into()),
        }
    }

    /// The config's text as the node has it.
    async fn text_on(&self, node: &Node) -> Result<String> {
        text_of(&get::one(node, "config".into(), MACHINE_CONFIGS.into(), self.id.clone()).await?)
    }
}

pub(crate) async fn edit(global: &Global, arguments: &Edit) -> Result<()> {
    arguments.config.check()?;
    let session = Session::new(global)?;
    let node = session.only().await?;
    let old = arguments.config.text_on(&node).await?;
    let folder = TempDir::with_prefix("podiumctl-").context("make a folder for the editor")?;
    let path = folder.path().join(FILE);
    let done = edited(&session, &node, arguments, &old, &path).await;
    // Nothing is lost that somebody has typed, whatever it is.
    let is_as_it_was = std::fs::read(&path)
        .is_ok_and(|bytes| str::from_utf8(&bytes).is_ok_and(|text| without_refusal(text) == old));
    if done.is_err() && !is_as_it_was && path.exists() {
        let kept = folder.keep().join(FILE);
        say::note(&format!("what you have written is kept, with all keys in it, in {}", kept.display()));
    }
    done
}

async fn edited(session: &Session, node: &Node, arguments: &Edit, old: &str, path: &Path) -> Result<()> {
    let mut shown = old.to_owned();
    let mut is_refused = false;
    loop {
        write_private(path, &shown)?;
        open_editor(path)?;
        let edited = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let text = without_refusal(&edited);
        if text == old || edited == shown && edited != old {
            say::note("nothing has changed: the config stays as it is");
            // Whoever gives up has not done what he wanted.
            return if is_refused { Err(say::Said.into()) } else { Ok(()) };
        }
        say::data(diff::unified(old, &text, say::on_stdout()))?;
        let change = Change { text, name: FILE.into(), how: arguments.change.clone() };
        let refusals = change.refusals(session, false).await?;
        if refusals.is_empty() {
            // An editor may be open for hours.
            if arguments.config.text_on(node).await? != old {
                return Err(Fault::new("the node's config has changed since the editor was opened")
                    .remedy("edit it again: what is there now would be undone")
                    .into());
            }
            return change.apply(session).await;
        }
        is_refused = true;
        shown = with_refusals(&refusals, &change.text);
    }
}

pub(crate) async fn patch(global: &Global, arguments: &Patch) -> Result<()> {
    arguments.config.check()?;
    let in_files = arguments.patch_file.iter().map(|path| format!("@{path}"));
    let patches: Vec<String> = arguments.patch.iter().cloned().chain(in_files).collect();
    if patches.is_empty() {
        return Err(Fault::usage("no patch").remedy("give one by --patch or --patch-file").into());
    }
    let patches = files::read_patches(&patches)?;
    let session = Session::new(global)?;
    // Nodes may have different configs: each gets its own back.
    let node = session.only().await?;
    let old = arguments.config.text_on(&node).await?;
    let text = patch::apply(&old, &patches).map_err(Fault::new)?;
    say::data(diff::unified(&in_order(&old)?, &text, say::on_stdout()))?;
    let change = Change { text, name: "the patched config".into(), how: arguments.change.clone() };
    if !change.refusals(&session, false).await?.is_empty() {
        return Err(say::Said.into());
    }
    change.apply(&session).await
}

/// The config's text: the spec itself, or the text in it.
fn text_of(resources: &[Resource]) -> Result<String> {
    let resource = resources.first().ok_or_else(|| Fault::new("the node has no machine config"))?;
    Ok(match resource::spec_value(resource) {
        serde_json::Value::String(text) => text,
        _ => resource.spec.as_ref().map(|spec| spec.yaml_spec.clone()).unwrap_or_default(),
    })
}

/// A config as a patch leaves it when it changes nothing: without comments, so that the diff shows the patch alone.
fn in_order(text: &str) -> Result<String> {
    patch::apply(text, &["{}".to_owned()]).map_err(|error| Fault::new(error).into())
}

/// A config may hold keys: nobody else reads it.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn open_editor(path: &Path) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("TALOS_EDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(path).status().map_err(|error| {
        Fault::new(format!("cannot run the editor {program}: {error}"))
            .remedy("set EDITOR to one that is installed")
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Fault::new(format!("the editor {program} has failed: {status}")).into())
    }
}

/// A refused config with the node's words above it, each line a comment.
fn with_refusals(refusals: &[String], text: &str) -> String {
    let said: String =
        refusals.iter().flat_map(|refusal| refusal.lines()).map(|line| format!("# {line}\n")).collect();
    format!("{REFUSED}\n{said}{BELOW}\n{text}")
}

/// The edited text without what was put before it.
fn without_refusal(text: &str) -> String {
    let Some(rest) = text.strip_prefix(REFUSED) else { return text.to_owned() };
    match rest.split_once(&format!("\n{BELOW}\n")) {
        Some((_, text)) => text.to_owned(),
        // Somebody has taken the line away: what is left of the reasons is comments.
        None => rest.trim_start_matches('\n').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_do_not_become_part_of_the_config() {
        let text = "# mine\nversion: v1alpha1\n# mine\n";
        let shown = with_refusals(&["line 1: x\n\nline 2: y".to_owned(), "z".to_owned()], text);
        let above = shown.strip_suffix(text).unwrap();
        assert!(
            above.lines().all(|line| line.starts_with('#')) && above.contains("# line 2: y\n# z\n"),
            "{shown}"
        );
        assert_eq!(without_refusal(&shown), text);
        assert_eq!(without_refusal("# mine\na: 1\n"), "# mine\na: 1\n");
    }
}
