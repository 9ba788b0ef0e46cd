//! What each verb does, one file a group: ask the nodes, let the library make text of the answers, print it.

pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod dashboard;
pub(crate) mod edit;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod generate;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod pods;
pub(crate) mod power;
pub(crate) mod services;
pub(crate) mod system;
pub(crate) mod validate;
mod wait;

use crate::cli::{Cli, Command};
use anyhow::Result;
use time::OffsetDateTime;

/// Does one command.
///
/// # Errors
/// What went wrong, said or to be said.
pub(crate) async fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Get(arguments) => get::run(&global, arguments).await,
        Command::Containers(arguments) => pods::containers(&global, &arguments).await,
        Command::Stats(arguments) => pods::stats(&global, &arguments).await,
        Command::Logs(arguments) => logs::logs(&global, arguments).await,
        Command::Dmesg(arguments) => logs::dmesg(&global, &arguments).await,
        Command::Service(arguments) => services::run(&global, arguments).await,
        Command::ApplyConfig(arguments) => apply::run(&global, arguments).await,
        Command::Edit(arguments) => edit::edit(&global, &arguments).await,
        Command::Patch(arguments) => edit::patch(&global, &arguments).await,
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Gen(arguments) => generate::run(&global, &arguments),
        Command::Config(arguments) => config::run(&global, arguments).await,
        Command::Version(arguments) => system::version(&global, &arguments).await,
        Command::Events(arguments) => events::run(&global, arguments).await,
        Command::Health(arguments) => health::run(&global, &arguments).await,
        Command::Reboot(arguments) => power::reboot(&global, &arguments).await,
        Command::Shutdown(arguments) => power::shutdown(&global, &arguments).await,
        Command::Reset(arguments) => power::reset(&global, &arguments).await,
        Command::Processes(arguments) => system::processes(&global, &arguments).await,
        Command::Memory(arguments) => system::memory(&global, &arguments).await,
        Command::Mounts(arguments) => system::mounts(&global, &arguments).await,
        Command::List(arguments) => files::list(&global, arguments).await,
        Command::Usage(arguments) => files::usage(&global, arguments).await,
        Command::Read(arguments) => files::read(&global, &arguments).await,
        Command::Dashboard(arguments) => dashboard::run(&global, &arguments).await,
        Command::Completion(arguments) => completion::run(&arguments),
    }
}

/// The one clock.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
