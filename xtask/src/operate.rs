//! The operator's side of a machine: `podiumctl` as it is built here, and for `run` a CA, a config that trusts it and a
//! talosconfig, all kept in `out/run/` so that a machine whose disk is kept knows its operator again.
//!
//! Nothing here speaks the API: keys are made, files are changed and the node is asked by running the program.

use crate::config::{self, Delivery};
use anyhow::{Context, Result, ensure};
use podium_image::run;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Between two looks whether the node answers: each is a process on a host that is busy emulating.
const PAUSE: Duration = Duration::from_secs(2);

/// Builds `podiumctl` beside the program that runs this.
///
/// # Errors
/// It does not compile.
pub(crate) fn podiumctl() -> Result<PathBuf> {
    built(&["build", "--quiet", "--locked", "-p", "podium-podiumctl", "--bin", "podiumctl"])
}

/// The same for tests: with what they have compiled already, by way of the tests that execute it. `cargo build` would
/// choose other features of what both stand on, and compile all of that a second time.
///
/// # Errors
/// It does not compile.
pub(crate) fn podiumctl_for_tests() -> Result<PathBuf> {
    built(&["test", "--quiet", "--locked", "--workspace", "--test", "session", "--no-run"])
}

fn built(words: &[&str]) -> Result<PathBuf> {
    run::loud(crate::cargo().args(words))?;
    let program = std::env::current_exe().context("our own place")?.with_file_name("podiumctl");
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}

/// What is needed to operate the machine of `run`.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    program: PathBuf,
    folder: PathBuf,
}

impl Operator {
    /// Builds the program, and makes the keys unless an earlier run has.
    ///
    /// # Errors
    /// It does not compile, or the files cannot be written.
    pub(crate) fn new() -> Result<Self> {
        Self::with(podiumctl()?, crate::top().join("out/run"))
    }

    fn with(program: PathBuf, folder: PathBuf) -> Result<Self> {
        let operator = Self { program, folder };
        fs::create_dir_all(&operator.folder).with_context(|| operator.folder.display().to_string())?;
        if !operator.secrets().is_file() || !operator.talosconfig().is_file() {
            let folder = operator.folder.to_string_lossy().into_owned();
            operator.quietly(&["gen", "secrets", "--endpoints", "127.0.0.1", "--force", "-o", &folder])?;
        }
        Ok(operator)
    }

    /// The demo's config with the CA, on its way into the machine.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn config(&self) -> Result<Delivery> {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
        let demo = read(&crate::top().join("rootfs/files/usr/lib/podium/machine.yaml"))?;
        let text = with_pods(&read(&self.secrets())?, &demo)?;
        let path = self.folder.join("config.yaml");
        write_secret(&path, &text).with_context(|| path.display().to_string())?;
        // Not in the kernel's command line, which every process of the node can read.
        config::on_disk(text.as_bytes())
    }

    /// Puts the host's port, which leads to the API, into the talosconfig; says once what to type when it answers.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn tell_when_answering(&self, port: u16) -> Result<()> {
        self.reach(port)?;
        let operator = self.clone();
        // It ends with the process.
        thread::spawn(move || {
            loop {
                let asked = operator.command(&["version", "--short"]).stderr(Stdio::null()).output();
                if asked.is_ok_and(|output| output.status.success()) {
                    return crate::say::note(&format!("the API answers; type: {}", operator.line()));
                }
                thread::sleep(PAUSE);
            }
        });
        Ok(())
    }

    fn reach(&self, port: u16) -> Result<()> {
        self.quietly(&["config", "endpoint", &format!("127.0.0.1:{port}")])
    }

    /// What to type.
    fn line(&self) -> String {
        run::line(&self.command(&["get", "staticpods"]))
    }

    fn secrets(&self) -> PathBuf {
        self.folder.join("machineconfig.yaml")
    }

    fn talosconfig(&self) -> PathBuf {
        self.folder.join("talosconfig")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--talosconfig").arg(self.talosconfig()).args(words).stdin(Stdio::null());
        command
    }

    fn quietly(&self, words: &[&str]) -> Result<()> {
        run::capture(&mut self.command(words)).map(drop)
    }
}

/// A config as `gen secrets` makes it, with the pods of another one.
fn with_pods(secrets: &str, pods: &str) -> Result<String> {
    let (before, _) =
        secrets.split_once("  # The static pods").context("the config that gen secrets made")?;
    let (_, machine) = pods.split_once("\nmachine:\n").context("the demo's config")?;
    Ok(format!("{before}{machine}"))
}

/// For who runs this alone: a key is in it.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// As `run` goes about it, twice with another port; the node is none, and the program the real one.
    #[test]
    fn the_files_of_run_are_a_config_that_is_valid_and_a_talosconfig_that_leads_to_its_port() {
        // Beside the folder of this test, by the tests that execute it.
        let own = std::env::current_exe().unwrap();
        let program = own.parent().unwrap().with_file_name("podiumctl");
        assert!(program.is_file(), "{} is missing: cargo test --workspace", program.display());
        let folder = tempfile::tempdir().unwrap();
        let keys = |operator: &Operator| fs::read(operator.secrets()).unwrap();
        let first = Operator::with(program.clone(), folder.path().join("run")).unwrap();
        let kept = keys(&first);
        let operator = Operator::with(program, folder.path().join("run")).unwrap();
        assert_eq!(keys(&operator), kept, "a disk that is kept knows its operator again");
        operator.config().unwrap();
        let config = operator.folder.join("config.yaml");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains("name: hello") && text.contains("  ca:\n"), "{text}");
        assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
        operator.quietly(&["validate", "-f", &config.to_string_lossy()]).unwrap();
        for port in [20_001, 20_002] {
            operator.reach(port).unwrap();
            let info = run::capture(&mut operator.command(&["config", "info"])).unwrap();
            assert!(info.contains(&format!("127.0.0.1:{port}\n")) && info.contains("os:admin"), "{info}");
        }
        let line = operator.line();
        let wanted = format!("podiumctl --talosconfig {} get staticpods", operator.talosconfig().display());
        assert!(line.ends_with(&wanted), "{line}");
        // Typed as it stands, it asks at that port, where nobody is.
        let typed = Command::new("sh").args(["-c", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&typed.stderr);
        assert!(typed.status.code() == Some(1) && said.contains("127.0.0.1:20002"), "{said}");
    }

    #[test]
    fn the_demos_pods_stand_behind_the_ca() {
        let secrets = "# c\nversion: v1alpha1\nmachine:\n  ca:\n    crt: a\n    key: b\n  # The static pods that\n  pods: []\n";
        let demo = "# d\nversion: v1alpha1\nmachine:\n  pods:\n    - kind: Pod\n";
        let text = with_pods(secrets, demo).unwrap();
        assert_eq!(
            text,
            "# c\nversion: v1alpha1\nmachine:\n  ca:\n    crt: a\n    key: b\n  pods:\n    - kind: Pod\n"
        );
        assert!(with_pods("machine: {}\n", demo).is_err() && with_pods(secrets, "machine: {}\n").is_err());
    }
}
