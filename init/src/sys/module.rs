//! Kernel modules: reads depmod's tables and what is loaded, lets `podium_init::modules` decide, loads.

use super::{At, Error, Result, file};
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
    /// Whether every request was known, and at least one of the modules that they mean is loaded now. One is enough
    /// because several may answer (`crc32c`), of which some find nothing to drive.
    pub(crate) fn is_success(&self) -> bool {
        let is_bad = |name: &String| {
            self.plan.blocked.contains(name) || self.failed.iter().any(|(failed, _)| failed == name)
        };
        self.plan.unknown.is_empty() && !self.plan.meant.iter().all(is_bad)
    }

    /// The failures that somebody should hear of. Not among them: a driver that finds nothing to drive, and a module
    /// whose file this image leaves out.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &(String, Error)> {
        let is_quiet = |error: &Error| {
            let errno = error.cause.raw_os_error().map(Errno::from_raw_os_error);
            errno == Some(Errno::NODEV) || (errno == Some(Errno::NOENT) && error.action == OPEN)
        };
        self.failed.iter().filter(move |(_, error)| !is_quiet(error))
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

/// Loads what answers these names, aliases and modaliases, and says what could not be.
pub(crate) fn load_all<'a>(requests: impl IntoIterator<Item = &'a str>) {
    let requests: Vec<&str> = requests.into_iter().collect();
    let store = match Store::open() {
        Ok(store) => store,
        Err(error) => {
            log::warn!("{error:#}; modules not loaded: {}", requests.join(" "));
            return;
        }
    };
    let report = store.load(requests.iter().copied(), "");
    for (_, error) in report.faults() {
        log::warn!("{error}");
    }
    if !report.plan.unknown.is_empty() {
        log::warn!("this image has no module {}", report.plan.unknown.join(" "));
    }
}
