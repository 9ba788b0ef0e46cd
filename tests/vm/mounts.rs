//! Every mount of a running node with its flags, held against the README's table in both directions: none is missing or
//! laxer, and there is no other.

use anyhow::{Context, Result, bail, ensure};
use podium_tests::hand::Hand;
use podium_tests::readme::{self, part_is_like};
use std::collections::BTreeMap;

/// Where containerd and the kubelet mount what is the pods'.
const OF_PODS: [&str; 4] = ["/run/containerd/", "/run/netns/", "/var/lib/kubelet/", "/var/lib/containerd/"];

/// Compares; `more` are the mounts of the machine config.
pub(super) fn each_is_in_its_place(hand: &Hand, more: &[&str]) -> Result<()> {
    let table = hand.read("/proc/1/mountinfo")?;
    let mut found = BTreeMap::new();
    for line in table.lines() {
        // id, parent, device, root, mount point, flags, propagation … - type, source, options
        let (mount, file_system) = line.split_once(" - ").context("no separator")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        let (point, flags) = (*fields.get(4).context("no mount point")?, *fields.get(5).context("no flags")?);
        if OF_PODS.iter().any(|folder| point.starts_with(folder)) || more.contains(&point) {
            continue;
        }
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let [kind, _, options] = file_system[..] else { continue };
        ensure!(fields.iter().any(|field| field.starts_with("shared:")), "{point} is not shared: {line}");
        ensure!(found.insert(point, (kind, flags, options)).is_none(), "{point} is mounted twice:\n{table}");
    }
    for row in readme::table("mounts", 5)? {
        let [point, kind, flags, options, _] = &row[..] else { bail!("{row:?}") };
        let (its_kind, its_flags, its_options) =
            found.remove(point.as_str()).with_context(|| format!("{point}: no mount in\n{table}"))?;
        ensure!((its_kind, its_flags) == (kind.as_str(), flags.as_str()), "{point}: {its_kind} {its_flags}");
        // What depends on the machine is told by its beginning.
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let is_there = its_options.split(',').any(|its| part_is_like(option, its));
            ensure!(is_there, "{point} lacks {option}: {its_options}");
        }
    }
    ensure!(found.is_empty(), "mounts that nobody knows of: {found:#?}");
    Ok(())
}
