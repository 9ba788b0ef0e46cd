//! Everything between the config and the loop: kernel settings, names, mounts, files, manifests, and the plan.
//!
//! The order matters at one place: a pod's hostPath file is there before its manifest, and all manifests before the
//! kubelet. [`Ready`] is the proof of it. A step that fails is said with what it means, and the next one is taken.

pub(crate) mod files;
pub(crate) mod mounts;
pub(crate) mod system;

use crate::boot::Machine;
use crate::load::Loaded;
use crate::manifest_dir;
use crate::sys::{clock, file};
use anyhow::Context;
use podium_init::manifests::{Facts, Holds, Manifest};
use podium_init::paths;
use podium_init::services::{NodeFacts, Service};
use podium_init::staticpods::{Foreign, StaticPods};
use podium_init::store::Proof;
use std::path::Path;

/// The list of static pods: a thousand with some problems each.
const LIST_MAX: usize = 8 << 20;

/// Proof that the manifests are on disk: only [`prepare`] makes it, and the reactor takes it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What to supervise, in order.
    pub services: Vec<Service>,
    /// See [`Loaded::proof`].
    pub proof: Option<Proof>,
    /// Files whose change is a change of the config.
    pub configs: Vec<String>,
    /// There are files of others in the manifest directory, which nobody has read yet.
    pub foreign: bool,
    /// Manifests are held back for something that may come by itself, or a mount is.
    pub waits: bool,
    /// Names the image.
    pub build_id: String,
    /// Keeps others from making one.
    _made_here: (),
}

/// Prepares the node.
pub(crate) fn prepare(machine: &Machine, loaded: &Loaded) -> Ready {
    let config = &loaded.config;
    system::kernel_modules(config, machine.container);
    system::kernel_settings(config, machine.container);
    system::hostname(config, machine.container);
    system::loopback();
    let missing = mounts::make(config);
    if machine.has_data {
        system::folders(Path::new("/"), machine.container);
    }
    files::write(&config.machine.files);
    let interfaces = crate::network::present();
    let node =
        NodeFacts { container: machine.container, interfaces, pod_list_token: system::pod_list_token() };
    system::all_files(config, machine, &node);
    let mut holds = Holds::missing(missing);
    let foreign = manifest_dir::write(&loaded.manifests, |changes| {
        // Nothing runs yet, so nobody waits for a pod; and a mount is tried again once the loop has begun.
        let facts = Facts {
            now: clock::now(),
            is_gone: &|_| true,
            runs: &|_| false,
            kubelet: None,
            is_mounted: &|_| false,
        };
        holds.order(&loaded.manifests, changes, &facts)
    });
    let is_there = |manifest: &&Manifest| !holds.holds(&manifest.id);
    let there: Vec<Manifest> = loaded.manifests.iter().filter(is_there).cloned().collect();
    let foreign: Vec<Foreign> = foreign.into_iter().map(|file| Foreign { file, read: None }).collect();
    let before = last_list().at_boot();
    let pods = before.next(&there, &loaded.problems, &foreign).with_held(&before, holds.held());
    for (path, json) in [
        (paths::MACHINE, serde_json::to_vec(machine)),
        (paths::HOLDS, serde_json::to_vec(&holds)),
        (paths::STATIC_PODS, serde_json::to_vec(&pods)),
        (paths::POD_VERSIONS, serde_json::to_vec(&pods)),
    ] {
        let written = json.context("as JSON").and_then(|json| file::replace(Path::new(path), &json, 0o600));
        if let Err(error) = written {
            log::error!("{path}: {error:#}; the config cannot be changed while the node runs");
        }
    }
    let configs = std::iter::once(paths::STATE_CONFIG.to_owned()).chain(loaded.file.clone()).collect();
    Ready {
        services: if loaded.without_config {
            system::services_without_config(machine, &node)
        } else {
            system::services(config, machine, &node)
        },
        proof: loaded.proof,
        configs,
        foreign: !foreign.is_empty(),
        waits: holds.waits(),
        build_id: machine.facts.build_id.clone(),
        _made_here: (),
    }
}

/// The list of the last boot; an empty one at the first, or when it is damaged.
fn last_list() -> StaticPods {
    let path = Path::new(paths::POD_VERSIONS);
    let bytes = file::read(path, LIST_MAX).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
