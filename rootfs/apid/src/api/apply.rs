//! `ApplyConfiguration`: a machine config for PID 1, which checks it, shows what it would change, and takes it or not.

use super::caller::Caller;
use super::facts::Facts;
use super::gate::What;
use super::upstream::{Purpose, Refused, Target};
use podium_init::live::Mode as Live;
use podium_wire::machine::apply_configuration_request::Mode;
use podium_wire::machine::{ApplyConfiguration, ApplyConfigurationRequest};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::Status;

/// From the config to the last word on it: new services are started, and a slow disk is written to.
pub(super) const APPLY_LIMIT: Duration = Duration::from_secs(120);
/// Lines of an answer: problems and differences are bounded by PID 1, its log lines are not.
const LINES_MAX: usize = 4000;
/// What a status may carry: clients take 8 KiB of headers.
const ERROR_MAX: usize = 4 << 10;

/// What PID 1 said.
#[derive(Debug, Default)]
struct Said {
    errors: Vec<String>,
    warnings: Vec<String>,
    diff: Vec<String>,
    /// The last line.
    end: Value,
}

/// Gives a config to PID 1.
pub(super) async fn apply(
    facts: &Facts,
    caller: &Caller,
    what: &What,
    request: ApplyConfigurationRequest,
) -> Result<ApplyConfiguration, Status> {
    let mode =
        Mode::try_from(request.mode).map_err(|_| Status::invalid_argument("mode: there is no such mode"))?;
    let live = match mode {
        Mode::Auto => Live::Auto,
        Mode::NoReboot => Live::NoReboot,
        Mode::Reboot => Live::Reboot,
        Mode::Staged => Live::Staged,
        Mode::Try => Live::Try,
    };
    what.is(format!("{}{}", mode.as_str_name(), if request.dry_run { ", dry run" } else { "" }));
    let mut wanted = json!({"request": "config apply", "mode": live.word(), "dry_run": request.dry_run});
    if let (Mode::Try, Some(limit)) = (mode, &request.try_mode_timeout) {
        let seconds = u64::try_from(limit.seconds).ok().filter(|seconds| *seconds > 0);
        wanted["timeout_s"] =
            seconds.ok_or_else(|| Status::invalid_argument("try_mode_timeout: below 1 s"))?.into();
    }
    let said = exchange(facts, caller.gives_config_to(), &wanted, &request.data).await;
    let said = said.map_err(Status::from)?;
    let details = summary(&said, mode, request.dry_run);
    let is_rebooting = said.end.get("reboot") == Some(&Value::Bool(true));
    let is_staged = said.end.get("result").and_then(Value::as_str) == Some("staged");
    let done = match mode {
        Mode::Auto if is_rebooting => Mode::Reboot,
        Mode::Auto if is_staged => Mode::Staged,
        Mode::Auto => Mode::NoReboot,
        mode => mode,
    };
    Ok(ApplyConfiguration {
        metadata: None,
        warnings: said.warnings,
        mode: done.into(),
        mode_details: details,
    })
}

async fn exchange(facts: &Facts, target: Target, wanted: &Value, config: &[u8]) -> Result<Said, Refused> {
    let mut lines = facts.upstream.open(target, Purpose::Call, wanted).await?;
    let first = lines.next(Some(APPLY_LIMIT)).await?.unwrap_or_default();
    if first.get("send") != Some(&Value::Bool(true)) {
        return Err(Refused::garbled("it does not ask for the config"));
    }
    lines.send(config).await?;
    lines.end().await?;
    let mut said = Said::default();
    for _ in 0..LINES_MAX {
        let line = match lines.next(Some(APPLY_LIMIT)).await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(Refused::garbled("it has no last word; see what config is in force")),
            Err(refused) => return Err(refused.because(&said.errors, ERROR_MAX)),
        };
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        match (text("problem"), text("diff")) {
            (Some(problem), _) if text("severity") == Some("warning") => {
                said.warnings.push(problem.to_owned());
            }
            (Some(problem), _) => said.errors.push(problem.to_owned()),
            (None, Some(diff)) => said.diff.push(diff.to_owned()),
            (None, None) if line.get("ok").is_some() => {
                said.end = line;
                return Ok(said);
            }
            (None, None) => {}
        }
    }
    Err(Refused::garbled("it has no end"))
}

/// For people, in the words that Talos's users know.
fn summary(said: &Said, mode: Mode, dry_run: bool) -> String {
    let text = |name: &str| said.end.get(name).and_then(Value::as_str);
    if dry_run {
        let diff = if said.diff.is_empty() { "No changes.".to_owned() } else { said.diff.join("\n") };
        let how = match text("needsReboot") {
            Some(why) => format!("Applying it needs a reboot: {why}"),
            None => "Applying it needs no reboot.".to_owned(),
        };
        return format!("Dry run summary:\n{how}\nConfig diff:\n{diff}\n");
    }
    let is_rebooting = said.end.get("reboot") == Some(&Value::Bool(true));
    match (text("result"), mode) {
        (Some("staged"), _) if is_rebooting => "Applied configuration with a reboot".to_owned(),
        (Some("staged"), _) => "Staged configuration to be applied after the next reboot".to_owned(),
        (_, Mode::Try) => {
            "Applied configuration for a try; it goes back unless it is applied again".to_owned()
        }
        _ => "Applied configuration without a reboot".to_owned(),
    }
}
