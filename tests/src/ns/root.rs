//! The root of a node in namespaces: PID 1 itself, fakes under the names of real programs, a config.

use crate::build::Programs;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What PID 1 starts in a container, or asks for something. All are the one fake.
const PROGRAMS: [&str; 4] = ["/usr/bin/apid", "/usr/bin/containerd", "/usr/bin/kubelet", "/usr/bin/ctr"];
/// Folders that are in every image.
const FOLDERS: [&str; 16] = [
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/system",
    "/var",
    "/fake",
    "/root",
    "/usr/sbin",
    "/usr/bin",
    "/usr/lib/podium/images",
    "/etc/kubernetes/manifests",
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/usr/libexec/kubernetes",
];
/// A pod that needs nothing.
const CONFIG: &str = "\
version: v1alpha1
machine:
  pods:
    - apiVersion: v1
      kind: Pod
      metadata: {name: hello}
      spec: {containers: [{name: hello, image: podium.local/hello:1}]}
";

/// Makes something at a path.
pub type Prepare = fn(&Path) -> Result<()>;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `/usr/lib/podium/machine.yaml`; `None`: the image has no config.
    pub config: Option<Vec<u8>>,
    /// Further files of the image.
    pub files: BTreeMap<&'static str, Vec<u8>>,
    /// Programs of this host that the image has too, with the libraries they need.
    pub programs: Vec<&'static str>,
    /// Programs, by where the image has them, in place of PID 1 or a fake: a static program of this host.
    pub copies: BTreeMap<&'static str, PathBuf>,
    /// Folders of the image that are mounts when PID 1 starts, as a container's volumes are.
    pub volumes: Vec<&'static str>,
    /// Makes what is no plain file at a path of the image; it is given that path as the host sees it.
    pub prepare: Vec<(&'static str, Prepare)>,
    /// How many descriptors PID 1 may have open, and everything it starts.
    pub open_files: Option<u64>,
    /// Seconds by which the node's clocks are ahead of the host's: the monotonic one, and boot time, which counts sleep.
    pub uptime: Option<[u64; 2]>,
    /// What each fake does, by its program's name.
    pub scripts: BTreeMap<&'static str, String>,
    /// PID 1's environment.
    pub env: BTreeMap<&'static str, String>,
    /// Signals (`HUP`, `USR1`) that are ignored when PID 1 is executed.
    pub ignored: Vec<&'static str>,
    /// PID 1's arguments, which a container has in place of a kernel command line.
    pub words: Vec<String>,
}

impl Default for Setup {
    /// One pod; containerd and kubelet get ready at once.
    fn default() -> Self {
        let ready = "ready\n".to_owned();
        Self {
            config: Some(CONFIG.into()),
            files: BTreeMap::new(),
            programs: Vec::new(),
            copies: BTreeMap::new(),
            volumes: Vec::new(),
            prepare: Vec::new(),
            open_files: None,
            uptime: None,
            scripts: BTreeMap::from([("containerd", ready.clone()), ("kubelet", ready)]),
            env: BTreeMap::new(),
            ignored: Vec::new(),
            words: Vec::new(),
        }
    }
}

impl Setup {
    /// The same with another script for one fake.
    #[must_use]
    pub fn script(mut self, name: &'static str, script: &str) -> Self {
        self.scripts.insert(name, script.to_owned());
        self
    }

    /// The same with another config in the image.
    #[must_use]
    pub fn config(mut self, config: &[u8]) -> Self {
        self.config = Some(config.to_owned());
        self
    }

    /// The same with one more file in the image.
    #[must_use]
    pub fn file(mut self, path: &'static str, bytes: Vec<u8>) -> Self {
        self.files.insert(path, bytes);
        self
    }

    /// The same with one more argument for PID 1.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Makes the tree in a folder of its own.
    pub(super) fn make(&self, programs: &Programs) -> Result<TempDir> {
        let root = tempfile::Builder::new().prefix("podium-ns-").tempdir()?;
        self.fill(root.path(), programs)
            .with_context(|| format!("make the root {}", root.path().display()))?;
        Ok(root)
    }

    fn fill(&self, root: &Path, programs: &Programs) -> Result<()> {
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        for folder in FOLDERS.iter().chain(&self.volumes) {
            std::fs::create_dir_all(inside(folder))?;
        }
        // Services that are not root pass through the root as well, and leave their records.
        for (folder, mode) in [("/", 0o755), ("/fake", 0o777)] {
            std::fs::set_permissions(inside(folder), PermissionsExt::from_mode(mode))?;
        }
        for (from, to) in [("usr/bin", "/bin"), ("usr/sbin", "/sbin"), ("usr/lib", "/lib")] {
            symlink(from, inside(to))?;
        }
        for (from, to) in
            [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")]
        {
            symlink(Path::new("/run/podium").join(from), inside(to))?;
        }
        std::fs::copy(&programs.init, inside("/usr/sbin/init"))?;
        std::fs::copy(&programs.fake, inside("/usr/bin/fake"))?;
        for program in PROGRAMS {
            symlink("/usr/bin/fake", inside(program))?;
        }
        for (path, program) in &self.copies {
            // What is there may be a link to the fake, which stays.
            std::fs::remove_file(inside(path))?;
            std::fs::copy(program, inside(path)).with_context(|| program.display().to_string())?;
        }
        std::fs::write(inside("/usr/lib/podium/image.json"), image_facts())?;
        if let Some(config) = &self.config {
            std::fs::write(inside("/usr/lib/podium/machine.yaml"), config)?;
        }
        for (name, script) in &self.scripts {
            std::fs::write(inside(&format!("/fake/{name}")), script)?;
        }
        for (path, bytes) in &self.files {
            let path = inside(path);
            std::fs::create_dir_all(path.parent().unwrap_or(root))?;
            std::fs::write(path, bytes)?;
        }
        for program in &self.programs {
            for file in with_libraries(program)? {
                let copy = inside(&file.to_string_lossy());
                std::fs::create_dir_all(copy.parent().unwrap_or(root))?;
                std::fs::copy(&file, copy).with_context(|| file.display().to_string())?;
            }
        }
        self.prepare
            .iter()
            .try_for_each(|(path, make)| make(&inside(path)).with_context(|| format!("make {path}")))
    }
}

/// A program of this host and every library that ldd(1) finds for it.
fn with_libraries(program: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd (Debian's libc-bin)")?;
    ensure!(output.status.success(), "ldd {program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(libraries.chain([PathBuf::from(program)]).collect())
}

/// What an image says of itself, with nothing to preload.
fn image_facts() -> String {
    let facts = serde_json::json!({
        "buildId": "namespace", "kernel": "", "containerd": "1.6.20", "runc": "1.1.5", "kubelet": "1.20.2",
        "pauseImage": "podium.local/pause:1", "preload": [], "built": 0,
    });
    facts.to_string()
}
