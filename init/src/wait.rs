//! `init wait`: waits until a manifest that is held back can be written, or a mount that is missing is there, and ends.
//!
//! PID 1 starts one while its last change has left something to wait for ([`Holds::waits`]), and has the change's rest
//! done when it ends. What it looks at changes with each change, so it reads that anew. It makes mounts whose devices
//! come late, and writes no manifest. Whether a pod is gone it sees by the pod's cgroup, whose name is in the UID that
//! the manifest gives; the kubelet is asked nothing.

use crate::prepare::mounts::{self, Late};
use crate::sys::{cgroup, clock, file};
use crate::{job, kmsg, network};
use anyhow::{Context, Result, bail};
use podium_init::manifests::{Facts, Holds};
use podium_init::paths;
use podium_init::services::KUBELET_GROUP;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Between two looks at processes: a pod is gone, or its port free, within this.
const POD_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks for a device, for as long as a disk is missing.
const MOUNT_PAUSE: Duration = Duration::from_secs(1);
/// The manifests of the largest config, as JSON within JSON, and a claim of some hundred bytes for each.
const HOLDS_MAX: usize = 64 << 20;

/// Waits.
///
/// # Errors
/// What is held cannot be read; PID 1 has it looked after later.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(arg) = args.first() {
        bail!("takes no argument, not {arg:?}");
    }
    job::enter()?;
    kmsg::start();
    let path = Path::new(paths::HOLDS);
    let mut late = Late::default();
    loop {
        let stamp = stamp(path);
        let holds: Holds = serde_json::from_slice(&file::read(path, HOLDS_MAX)?)
            .with_context(|| format!("read {}", path.display()))?;
        let config = network::config_in_use();
        let is_mounted = |target: &str| mounts::is_mounted(&config, target);
        loop {
            late.make(&config, &holds.missing);
            let now = clock::now();
            let kubelet = cgroup::running_since(KUBELET_GROUP);
            let facts = Facts {
                now,
                is_gone: &cgroup::pod_is_gone,
                runs: &cgroup::pod_runs,
                kubelet,
                is_mounted: &is_mounted,
            };
            if !holds.waits() || holds.is_due(&facts) {
                return Ok(());
            }
            std::thread::sleep(if holds.waits_for_pods() { POD_PAUSE } else { MOUNT_PAUSE });
            if self::stamp(path) != stamp {
                break;
            }
        }
    }
}

/// Another one when the file was written since.
fn stamp(path: &Path) -> Option<(u64, i64, i64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}
