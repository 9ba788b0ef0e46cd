//! The words of `init ctl`: text in, a request out. Asks nobody.

use anyhow::{Context, Result, bail};
use podium_init::config::nearest;
use podium_init::control::{Action, Request};
use podium_init::live::Mode;
use podium_init::paths;
use podium_init::shutdown::{Reset, Shutdown};

/// What is to be done, and how it is printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) socket: String,
    /// As it came, instead of a table.
    pub(super) json: bool,
    pub(super) command: Command,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Ask(Request),
    /// A [`Request::ConfigApply`] and the file with the config, or `-`.
    Apply {
        request: Request,
        file: String,
    },
}

/// An option: its names, and whether a value follows it.
struct Known {
    long: &'static str,
    short: &'static str,
    has_value: bool,
}

const OPTIONS: [Known; 13] = [
    Known { long: "--socket", short: "", has_value: true },
    Known { long: "--output", short: "-o", has_value: true },
    Known { long: "--help", short: "-h", has_value: false },
    Known { long: "--follow", short: "-f", has_value: false },
    Known { long: "--watch", short: "-w", has_value: false },
    Known { long: "--tail", short: "", has_value: true },
    Known { long: "--since", short: "", has_value: true },
    Known { long: "--boot", short: "-b", has_value: true },
    Known { long: "--mode", short: "", has_value: true },
    Known { long: "--dry-run", short: "", has_value: false },
    Known { long: "--timeout", short: "", has_value: true },
    Known { long: "--partitions", short: "", has_value: true },
    Known { long: "--reboot", short: "", has_value: false },
];
const COMMANDS: [&str; 11] = [
    "version", "services", "service", "logs", "events", "pods", "config", "dmesg", "reboot", "poweroff",
    "reset",
];
const CONFIG_COMMANDS: [&str; 5] = ["get", "status", "apply", "history", "rollback"];

/// Reads the words after `init ctl`.
///
/// # Errors
/// The word that is wrong, and what may stand there.
pub(super) fn parse(args: &[String]) -> Result<Invocation> {
    let (words, mut options) = divide(args)?;
    let socket = options.value("--socket").unwrap_or_else(|| paths::CONTROL_SOCKET.to_owned());
    let json = match options.value("--output").as_deref() {
        None | Some("table") => false,
        Some("json") => true,
        Some(other) => bail!("-o {other}: it is `table` or `json`"),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if options.flag("--help") || matches!(words.as_slice(), [] | ["help", ..]) {
        return Ok(Invocation { socket, json, command: Command::Help });
    }
    let command = command(&words, &mut options)?;
    options.none_left(&words)?;
    Ok(Invocation { socket, json, command })
}

fn command(words: &[&str], options: &mut Options) -> Result<Command> {
    Ok(Command::Ask(match words {
        ["version"] => Request::Version,
        ["services"] => Request::Services,
        ["service", action, name] => {
            let action = Action::named(action).with_context(|| {
                format!("`service {action}`: it is start, stop or restart, then the name")
            })?;
            Request::Service { name: (*name).to_owned(), action }
        }
        ["service", name] if Action::named(name).is_none() => {
            Request::ServiceStatus { name: (*name).to_owned() }
        }
        ["service", ..] => bail!("usage: init ctl service NAME, or start|stop|restart NAME"),
        ["logs", service] => Request::Logs {
            service: (*service).to_owned(),
            tail: options.number("--tail")?,
            follow: options.flag("--follow"),
            boots_back: boots_back(options)?,
        },
        ["logs", ..] => {
            bail!("usage: init ctl logs NAME [-f] [--tail N] [-b 0|-1|-2]; `init ctl services` has the names")
        }
        ["events"] => Request::Events {
            since: options.number("--since")?.unwrap_or(0),
            boot: options.value("--boot"),
            follow: options.flag("--follow"),
        },
        ["pods"] => Request::Pods,
        ["pods", "status"] => Request::PodStatus { watch: options.flag("--watch") },
        ["dmesg"] => Request::Dmesg { follow: options.flag("--follow") },
        ["reboot"] => Request::Shutdown(Shutdown::Reboot),
        ["poweroff"] => Request::Shutdown(Shutdown::PowerOff),
        ["reset"] => Request::Shutdown(Shutdown::Reset(reset(options)?)),
        ["config", rest @ ..] => return config(rest, options),
        [command, rest @ ..] if COMMANDS.contains(command) => {
            bail!("`{command}` takes no {}; `init ctl help` tells what it takes", quoted(rest))
        }
        [other, ..] => bail!("there is no command `{other}`{}", hint(other, &COMMANDS)),
        [] => return Ok(Command::Help),
    }))
}

/// As journalctl counts boots: 0 is this one, -1 the one before it.
fn boots_back(options: &mut Options) -> Result<Option<u64>> {
    let Some(text) = options.value("--boot") else { return Ok(None) };
    let back = if text == "0" { Some(0) } else { text.strip_prefix('-').and_then(|back| back.parse().ok()) };
    back.map(Some).with_context(|| format!("--boot {text}: it is 0 for this boot, -1 for the one before it"))
}

fn reset(options: &mut Options) -> Result<Reset> {
    let given = options.value("--partitions");
    let labels: Vec<&str> =
        given.as_ref().map_or_else(|| Reset::LABELS.into(), |list| list.split(',').collect());
    if let Some(other) = labels.iter().find(|label| !Reset::LABELS.contains(label)) {
        bail!("--partitions {other}: it is {}, or both with a comma", Reset::LABELS.join(", "));
    }
    Ok(Reset::of(&labels, options.flag("--reboot")))
}

fn config(words: &[&str], options: &mut Options) -> Result<Command> {
    Ok(Command::Ask(match words {
        ["get"] => Request::ConfigGet,
        ["status"] => Request::ConfigStatus,
        ["history"] => Request::ConfigHistory,
        ["rollback"] => Request::ConfigRollback { generation: None },
        ["rollback", generation] => {
            let number = generation.parse();
            let number = number.ok().with_context(|| format!("rollback {generation}: it is a number"))?;
            Request::ConfigRollback { generation: Some(number) }
        }
        ["apply", file] => {
            let mode = match options.value("--mode") {
                None => Mode::Auto,
                Some(mode) => Mode::named(&mode).with_context(|| {
                    format!("--mode {mode}: it is auto, no-reboot, staged, reboot or try")
                })?,
            };
            let request = Request::ConfigApply {
                mode,
                dry_run: options.flag("--dry-run"),
                timeout_s: options.number("--timeout")?,
            };
            return Ok(Command::Apply { request, file: (*file).to_owned() });
        }
        ["apply", ..] => bail!("usage: init ctl config apply FILE, or - for standard input"),
        [command, rest @ ..] if CONFIG_COMMANDS.contains(command) => {
            bail!("`config {command}` takes no {}; `init ctl help` tells what it takes", quoted(rest))
        }
        [other, ..] => bail!("there is no command `config {other}`{}", hint(other, &CONFIG_COMMANDS)),
        [] => bail!("usage: init ctl config {}", CONFIG_COMMANDS.join("|")),
    }))
}

/// Words on one side, options with their values on the other, in any order.
fn divide(args: &[String]) -> Result<(Vec<String>, Options)> {
    let (mut words, mut options) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            words.extend(args.by_ref().cloned());
        } else if arg == "-" || !arg.starts_with('-') {
            words.push(arg.clone());
        } else {
            let (name, given) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let known = OPTIONS.iter().find(|known| known.long == name || known.short == name);
            let Some(known) = known else {
                bail!("there is no option {name}{}", hint(name, &OPTIONS.map(|known| known.long)))
            };
            let value = match (known.has_value, given) {
                (true, None) => Some(args.next().with_context(|| format!("{name} wants a value"))?.clone()),
                (false, Some(_)) => bail!("{name} takes no value"),
                (_, given) => given,
            };
            options.push((known.long, value));
        }
    }
    Ok((words, Options(options)))
}

/// What was given and is not used yet.
struct Options(Vec<(&'static str, Option<String>)>);

impl Options {
    fn take(&mut self, name: &str) -> Option<Option<String>> {
        // Of one that is given twice the last counts.
        let place = self.0.iter().rposition(|(known, _)| *known == name)?;
        let value = self.0.swap_remove(place).1;
        self.0.retain(|(known, _)| *known != name);
        Some(value)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.take(name).flatten()
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.value(name) else { return Ok(None) };
        text.parse().map(Some).ok().with_context(|| format!("{name} {text}: it is a whole number"))
    }

    fn none_left(&self, words: &[&str]) -> Result<()> {
        match self.0.first() {
            Some((name, _)) => {
                bail!("`{}` takes no {name}; `init ctl help` tells what it takes", words.join(" "))
            }
            None => Ok(()),
        }
    }
}

fn hint(name: &str, known: &[&'static str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!(", did you mean `{near}`?"),
        None => format!("; there is: {}", known.join(" ")),
    }
}

fn quoted(words: &[&str]) -> String {
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn request(line: &str) -> Request {
        match parsed(line).unwrap().command {
            Command::Ask(request) | Command::Apply { request, .. } => request,
            Command::Help => panic!("{line}: help"),
        }
    }

    #[test]
    fn every_command_is_its_request() {
        let name = || "kubelet".to_owned();
        for (line, expected) in [
            ("version", Request::Version),
            ("services", Request::Services),
            ("service kubelet", Request::ServiceStatus { name: name() }),
            ("service restart kubelet", Request::Service { name: name(), action: Action::Restart }),
            ("logs kubelet", Request::Logs { service: name(), tail: None, follow: false, boots_back: None }),
            (
                "logs -f --tail 5 kubelet",
                Request::Logs { service: name(), tail: Some(5), follow: true, boots_back: None },
            ),
            (
                "logs kubelet --tail=0",
                Request::Logs { service: name(), tail: Some(0), follow: false, boots_back: None },
            ),
            (
                "logs kubelet -b -1",
                Request::Logs { service: name(), tail: None, follow: false, boots_back: Some(1) },
            ),
            (
                "logs kubelet --boot=0",
                Request::Logs { service: name(), tail: None, follow: false, boots_back: Some(0) },
            ),
            ("events", Request::Events { since: 0, boot: None, follow: false }),
            (
                "events --since 7 --boot x -f",
                Request::Events { since: 7, boot: Some("x".into()), follow: true },
            ),
            ("pods", Request::Pods),
            ("pods status", Request::PodStatus { watch: false }),
            ("pods status -w", Request::PodStatus { watch: true }),
            ("config get", Request::ConfigGet),
            ("config status", Request::ConfigStatus),
            ("config history", Request::ConfigHistory),
            ("config rollback", Request::ConfigRollback { generation: None }),
            ("config rollback 4", Request::ConfigRollback { generation: Some(4) }),
            ("config apply -", Request::ConfigApply { mode: Mode::Auto, dry_run: false, timeout_s: None }),
            (
                "config apply f --mode try --dry-run --timeout 30",
                Request::ConfigApply { mode: Mode::Try, dry_run: true, timeout_s: Some(30) },
            ),
            ("dmesg --follow", Request::Dmesg { follow: true }),
            ("reboot", Request::Shutdown(Shutdown::Reboot)),
            ("poweroff", Request::Shutdown(Shutdown::PowerOff)),
            (
                "reset",
                Request::Shutdown(Shutdown::Reset(Reset { state: true, ephemeral: true, reboot: false })),
            ),
            (
                "reset --partitions EPHEMERAL --reboot",
                Request::Shutdown(Shutdown::Reset(Reset { state: false, ephemeral: true, reboot: true })),
            ),
        ] {
            assert_eq!(request(line), expected, "{line}");
        }
    }

    #[test]
    fn output_and_socket_may_stand_anywhere() {
        let invocation = parsed("-o json services --socket=/tmp/x").unwrap();
        assert_eq!((invocation.json, invocation.socket.as_str()), (true, "/tmp/x"));
        assert!(!parsed("services --output=table").unwrap().json);
        assert_eq!(parsed("services").unwrap().socket, "/run/podium/init.sock");
        for line in ["", "help", "--help", "services -h", "help services"] {
            assert_eq!(parsed(line).unwrap().command, Command::Help, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, error) in [
            ("servces", "there is no command `servces`, did you mean `services`?"),
            ("xyzzy", "there is no command `xyzzy`; there is: version services"),
            ("services all", "`services` takes no `all`"),
            ("services --tail 5", "`services` takes no --tail"),
            ("services --tial 5", "there is no option --tial, did you mean `--tail`?"),
            ("reset --partitions STATE,EFI", "--partitions EFI: it is STATE, EPHEMERAL, or both"),
            ("reboot --partitions STATE", "`reboot` takes no --partitions"),
            ("logs", "usage: init ctl logs NAME"),
            ("logs a -b 1", "--boot 1: it is 0 for this boot"),
            ("logs a --tail", "--tail wants a value"),
            ("logs a --tail x", "--tail x: it is a whole number"),
            ("logs a -f=1", "-f takes no value"),
            ("service kill a", "`service kill`: it is start, stop or restart"),
            ("service restart", "usage: init ctl service"),
            ("config", "usage: init ctl config get|status"),
            ("config aply f", "there is no command `config aply`, did you mean `apply`?"),
            ("config apply", "usage: init ctl config apply FILE"),
            ("config apply f --mode now", "--mode now: it is auto, no-reboot"),
            ("config rollback last", "rollback last: it is a number"),
            ("services -o yaml", "-o yaml: it is `table` or `json`"),
        ] {
            let said = format!("{:#}", parsed(line).unwrap_err());
            assert!(said.contains(error), "{line}: {said}");
        }
    }
}
