//! Kernel modules: reads depmod's tables and what is loaded, lets `podium_init::modules` decide, loads.

use super::{At, Error, Result, file};
use anyhow::{Context, bail};
use podium_init::modules::{self, Known, Module, Plan, Tables};
use podium_init::paths;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h: the kernel decompresses what it reads.
const COMPRESSED_FILE: i32 = 4;
/// The largest of depmod's tables that is read; `modules.alias` of a full kernel has 1.5 MB.
const TABLE_LIMIT: usize = 16 << 20;
/// The largest text that is taken from /proc.
const PROC_LIMIT: usize = 1 << 20;

/// What came of some requests.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// As decided.
    pub plan: Plan,
    /// Loaded now, in this order.
    pub loaded: Vec<String>,
    /// Could not be loaded: the module's name and the kernel's answer.
    pub failed: Vec<(String, Error)>,
}

impl Report {
    /// The failures that somebody should hear of. Not among them: a driver that finds nothing to drive, and a module
    /// whose file this image leaves out.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &(String, Error)> {
        let is_quiet = |error: &Error| {
            let errno = error.errno().map(Errno::from_raw_os_error);
            errno == Some(Errno::NODEV) || (errno == Some(Errno::NOENT) && error.action == OPEN)
        };
        self.failed.iter().filter(move |(_, error)| !is_quiet(error))
    }

    /// Whether all modules that the requests mean were loaded before.
    pub(crate) fn was_there(&self) -> bool {
        let is_new = |name: &String| {
            self.loaded.contains(name) || self.failed.iter().any(|(failed, _)| failed == name)
        };
        !self.plan.meant.is_empty() && !self.plan.meant.iter().any(is_new)
    }

    /// Success: every request was known, and at least one of the modules that they mean is loaded now. One is enough
    /// because several may answer (`crc32c`), of which some find nothing to drive.
    ///
    /// # Errors
    /// Says what is missing, forbidden or broken.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        if !self.plan.unknown.is_empty() {
            bail!(
                "this image has no module {}; image.yaml lists those it takes",
                self.plan.unknown.join(" ")
            );
        }
        let is_bad = |name: &String| {
            self.plan.blocked.contains(name) || self.failed.iter().any(|(failed, _)| failed == name)
        };
        if !self.plan.meant.iter().all(is_bad) {
            return Ok(());
        }
        let blocked: Vec<&str> = self.plan.blocked.iter().map(String::as_str).collect();
        let (_, error) = self.failed.into_iter().last().with_context(|| {
            format!("forbidden by modprobe.blacklist= on the kernel command line: {}", blocked.join(" "))
        })?;
        Err(error.into())
    }
}

/// What [`Error::action`] says when a module's file is missing; ENOENT of [`LOAD`] means a symbol is.
const OPEN: &str = "open module";
const LOAD: &str = "load";

/// The modules of the running kernel.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    tables: Tables,
    cmdline: Vec<u8>,
}

impl Store {
    /// Reads the tables of `/usr/lib/modules/<release>`.
    ///
    /// # Errors
    /// There is no `modules.dep` that can be read; the other tables may be missing.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new(paths::MODULES).join(release);
        let table = |name: &str| -> anyhow::Result<String> {
            let bytes = file::read(&folder.join(name), TABLE_LIMIT)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let tables = Tables {
            dep: table("modules.dep")?,
            alias: table("modules.alias").unwrap_or_default(),
            softdep: table("modules.softdep").unwrap_or_default(),
            builtin: table("modules.builtin").unwrap_or_default(),
        };
        let cmdline = file::read(Path::new("/proc/cmdline"), PROC_LIMIT)?;
        Ok(Self { folder, tables, cmdline })
    }

    /// Loads what answers these names, aliases and modaliases, with what it needs. `parameters` (`a=1 b=2`) go to
    /// the modules that are meant, before those of the kernel command line (`module.parameter=value`).
    pub(crate) fn load<'a>(
        &'a self,
        requests: impl IntoIterator<Item = &'a str>,
        parameters: &str,
    ) -> Report {
        // Without the list a loaded module is tried again, and the kernel says so.
        let live = file::read(Path::new("/proc/modules"), PROC_LIMIT).unwrap_or_default();
        let known = Known {
            loaded: modules::loaded(&String::from_utf8_lossy(&live)),
            blacklist: modules::blacklist(&self.cmdline),
        };
        let mut report = Report { plan: modules::plan(&self.tables, requests, &known), ..Report::default() };
        for module in &report.plan.load {
            let given = if report.plan.meant.contains(&module.name) { parameters } else { "" };
            match self.insert(module, given) {
                Ok(()) => report.loaded.push(module.name.clone()),
                Err(error) => report.failed.push((module.name.clone(), error)),
            }
        }
        report
    }

    /// finit_module(2). What somebody else has loaded meanwhile is loaded.
    fn insert(&self, module: &Module, given: &str) -> Result<()> {
        let path = self.folder.join(&module.file);
        let file = File::open(&path).at(OPEN, &path)?;
        let all = [given, &modules::parameters(&self.cmdline, &module.name)].join(" ");
        let all = CString::new(all.trim()).map_err(std::io::Error::from).at("give parameters to", &path)?;
        let flags = if modules::is_compressed(&module.file) { COMPRESSED_FILE } else { 0 };
        match rustix::system::finit_module(file, &all, flags) {
            Err(Errno::EXIST) => Ok(()),
            other => other.at(LOAD, path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn report(meant: &[&str], failed: &[(&str, i32)], unknown: &[&str], blocked: &[&str]) -> Report {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let failed = failed.iter().map(|(name, errno)| {
            let error: Result<()> = Err(io::Error::from_raw_os_error(*errno)).at(LOAD, *name);
            ((*name).to_owned(), error.unwrap_err())
        });
        let plan = Plan {
            load: Vec::new(),
            meant: owned(meant).into_iter().collect(),
            unknown: owned(unknown),
            blocked: owned(blocked).into_iter().collect(),
        };
        Report { plan, loaded: Vec::new(), failed: failed.collect() }
    }

    #[test]
    fn one_of_several_answers_is_enough_and_a_dependency_that_failed_is_not_what_was_meant() {
        assert!(report(&["a"], &[], &[], &[]).check().is_ok());
        assert!(report(&["a", "b"], &[("a", 19)], &[], &[]).check().is_ok());
        assert!(report(&["a"], &[("soft", 19)], &[], &[]).check().is_ok());
    }

    #[test]
    fn a_failure_says_why() {
        let text = |report: Report| format!("{:#}", report.check().unwrap_err());
        assert!(text(report(&["a"], &[], &["zfs", "x"], &[])).starts_with("this image has no module zfs x;"));
        assert!(text(report(&["a"], &[("dep", 2), ("a", 8)], &[], &[])).contains("Exec format error"));
        assert!(text(report(&["a"], &[], &[], &["a"])).contains("modprobe.blacklist="));
    }

    #[test]
    fn a_driver_without_a_device_and_a_file_that_is_left_out_are_no_faults() {
        assert_eq!(report(&["a"], &[("a", 19)], &[], &[]).faults().count(), 0);
        assert_eq!(report(&["a"], &[("a", 2)], &[], &[]).faults().count(), 1, "a symbol is missing");
        let mut report = report(&["a"], &[("a", 2)], &[], &[]);
        report.failed[0].1.action = OPEN;
        assert_eq!(report.faults().count(), 0);
    }
}
