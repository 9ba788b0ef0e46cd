//! The mounts of the config, at boot and when the disk of one comes late.
//!
//! A disk that is not there in time does not hold up the boot: the mount is *missing* then, `init wait` makes it once
//! its device appears, and the pods that use its mount point by hostPath are held until that. Who makes mounts has a
//! lock: two would mount one thing twice.

use crate::boot;
use crate::load::load_drivers;
use crate::sys::{clock, file};
use anyhow::{Result, bail};
use podium_init::clock::Time;
use podium_init::config::MachineConfig;
use podium_init::mounts::{Mount, What, plan};
use podium_init::paths;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How long the disks of `machine.kubelet.extraMounts` may take to appear, all together: a USB disk needs two to three
/// seconds, and pods that need none of them wait as well.
const DISK_WAIT: Duration = Duration::from_secs(5);
/// Between two looks.
const DISK_PAUSE: Duration = Duration::from_millis(50);
/// From a mount that failed though its device is there to the next try: the kernel writes lines about each.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Makes them, and waits a little for the disks of some. Gives the mount points of `machine.kubelet.extraMounts` where
/// nothing could be mounted.
pub(crate) fn make(config: &MachineConfig) -> Vec<String> {
    let _lock = file::lock(paths::MOUNTS_LOCK);
    let until = clock::now() + DISK_WAIT;
    let mut missing: Vec<String> = Vec::new();
    for mount in plan(config) {
        if let Some(device) = device(&mount) {
            wait_for(Path::new(device), until);
        }
        let Err(error) = make_one(&mount, &missing) else { continue };
        let target = mount.target.into_owned();
        if config.machine.kubelet.extra_mounts.iter().any(|extra| extra.destination == target) {
            log::error!("{error:#}; pods that use {target} by hostPath are held until it is mounted");
            missing.push(target);
        } else {
            log::error!("{error:#}; what needs {target} will fail");
        }
    }
    missing
}

/// Whether what the config wants at this mount point is mounted there.
pub(crate) fn is_mounted(config: &MachineConfig, target: &str) -> bool {
    let mount = plan(config).into_iter().find(|mount| mount.target == target);
    // What no config asks for any more is not waited for.
    mount.is_none_or(|mount| boot::is_made(&mount).unwrap_or(false))
}

/// Makes mounts whose devices come late.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// When a mount has failed, and why, by mount point.
    failed: BTreeMap<String, (Time, String)>,
}

impl Late {
    /// Tries those of these mount points that have what they need.
    pub(crate) fn make(&mut self, config: &MachineConfig, missing: &[String]) {
        let now = clock::now();
        let mut left: Vec<String> = Vec::new();
        for mount in plan(config).into_iter().filter(|mount| missing.contains(&mount.target.to_string())) {
            let target = mount.target.to_string();
            if boot::is_made(&mount).unwrap_or(false) {
                continue;
            }
            let obstacle = obstacle(&mount, &left);
            if obstacle.is_some() {
                // Another device may come in the place of one that could not be mounted.
                self.failed.remove(&target);
            }
            let failed = self.failed.get(&target);
            if obstacle.is_some() || failed.is_some_and(|(at, _)| now < *at + RETRY_DELAY) {
                left.push(target);
                continue;
            }
            let _lock = file::lock(paths::MOUNTS_LOCK);
            match make_one(&mount, &left) {
                Ok(()) => log::info!("{target}: mounted, now that what it needs is there"),
                Err(error) => {
                    let error = format!("{error:#}");
                    if failed.is_none_or(|(_, before)| *before != error) {
                        log::error!("{error}; tried again every {} s", RETRY_DELAY.as_secs());
                    }
                    self.failed.insert(target.clone(), (now, error));
                    left.push(target);
                }
            }
        }
    }
}

/// Waits for a disk whose driver may still have to be loaded.
fn wait_for(device: &Path, until: Time) {
    let mut seen = BTreeSet::new();
    let mut is_told = false;
    while !device.exists() && clock::now() < until {
        load_drivers(&mut seen);
        if !std::mem::replace(&mut is_told, true) {
            log::info!("waiting up to {} s for {}", DISK_WAIT.as_secs(), device.display());
        }
        std::thread::sleep(DISK_PAUSE);
    }
}

fn make_one(mount: &Mount, missing: &[String]) -> Result<()> {
    match obstacle(mount, missing) {
        Some(why) => bail!("{}: not mounted: {why}", mount.target),
        None => boot::make(mount).map(drop),
    }
}

/// What has to be there first: its device, and mounts that it lies on or shows a part of.
fn obstacle(mount: &Mount, missing: &[String]) -> Option<String> {
    if let Some(device) = device(mount).filter(|device| !Path::new(device).exists()) {
        return Some(format!("{device} is not there"));
    }
    let source = match &mount.what {
        What::Bind { source, .. } => source.as_str(),
        What::FileSystem { .. } | What::Overlay { .. } => "",
    };
    let lies_on = |other: &&String| {
        let is_below = |path: &str| Path::new(path).starts_with(other.as_str());
        is_below(source) || is_below(&mount.target)
    };
    missing.iter().find(lies_on).map(|other| format!("nothing is mounted at {other}"))
}

fn device(mount: &Mount) -> Option<&str> {
    match &mount.what {
        What::FileSystem { source, .. } => Some(source.as_ref()).filter(|source| source.starts_with("/dev/")),
        What::Bind { .. } | What::Overlay { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::config;

    fn mounts(list: &str) -> Vec<Mount> {
        let text = format!("version: v1alpha1\nmachine: {{kubelet: {{extraMounts: [{list}]}}}}\n");
        let config = config::parse(text.as_bytes()).config.unwrap();
        let extra = config.machine.kubelet.extra_mounts.len();
        let plan = plan(&config);
        plan.into_iter().rev().take(extra).rev().collect()
    }

    #[test]
    fn a_mount_waits_for_its_device_and_for_those_that_it_lies_on() {
        let all = mounts(
            "{destination: /var/mnt/a, type: ext4, source: /dev/podium-none}, \
             {destination: /var/mnt/b, type: ext4, source: /dev/null}, \
             {destination: /var/mnt/a/c, type: tmpfs, source: tmpfs}, \
             {destination: /var/mnt/d, source: /var/mnt/a/e}, \
             {destination: /var/mnt/ab, source: /var/f}",
        );
        let missing = ["/var/mnt/a".to_owned()];
        let why: Vec<Option<String>> = all.iter().map(|mount| obstacle(mount, &missing)).collect();
        let on_a = Some("nothing is mounted at /var/mnt/a".to_owned());
        assert_eq!(why, [Some("/dev/podium-none is not there".into()), None, on_a.clone(), on_a, None]);
        assert!(all.get(2..).unwrap().iter().all(|mount| obstacle(mount, &[]).is_none()));
    }
}
