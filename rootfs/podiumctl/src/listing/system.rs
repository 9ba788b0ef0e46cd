//! The machine itself: version, memory, mounts, processes.

use super::node_name;
use super::pods::each;
use crate::output::Listing;
use crate::times;
use podium_wire::machine::{MemInfo, Memory, Mounts, Process, ProcessInfo, Version};
use serde_json::{Map, Value, json};

/// `memory`, in MB as talosctl calls 1024 KiB.
pub fn memory(replies: &[(String, Vec<Memory>)]) -> Listing {
    let header = ["NODE", "TOTAL", "USED", "FREE", "SHARED", "BUFFERS", "CACHE", "AVAILABLE"];
    let mut listing = Listing::new(&header);
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        let Some(info) = &message.meminfo else { continue };
        let used = info.memtotal.saturating_sub(info.memfree + info.cached + info.buffers);
        let kibs =
            [info.memtotal, used, info.memfree, info.shmem, info.buffers, info.cached, info.memavailable];
        let row = std::iter::once(node.to_owned()).chain(kibs.map(|kib| (kib / 1024).to_string()));
        let mut item = Map::new();
        item.insert("node".to_owned(), json!(node));
        meminfo(info).into_iter().for_each(|(name, kib, _)| {
            item.insert(name.to_owned(), json!(kib));
        });
        listing.push(row.collect(), Value::Object(item));
    }
    listing
}

/// `memory -v`: names as talosctl has them, values, and whether they are kB.
pub fn meminfo(info: &MemInfo) -> Vec<(&'static str, u64, bool)> {
    vec![
        ("MemTotal", info.memtotal, true),
        ("MemFree", info.memfree, true),
        ("MemAvailable", info.memavailable, true),
        ("Buffers", info.buffers, true),
        ("Cached", info.cached, true),
        ("SwapCached", info.swapcached, true),
        ("Active", info.active, true),
        ("Inactive", info.inactive, true),
        ("ActiveAnon", info.activeanon, true),
        ("InactiveAnon", info.inactiveanon, true),
        ("ActiveFile", info.activefile, true),
        ("InactiveFile", info.inactivefile, true),
        ("Unevictable", info.unevictable, true),
        ("Mlocked", info.mlocked, true),
        ("SwapTotal", info.swaptotal, true),
        ("SwapFree", info.swapfree, true),
        ("Dirty", info.dirty, true),
        ("Writeback", info.writeback, true),
        ("AnonPages", info.anonpages, true),
        ("Mapped", info.mapped, true),
        ("Shmem", info.shmem, true),
        ("Slab", info.slab, true),
        ("SReclaimable", info.sreclaimable, true),
        ("SUnreclaim", info.sunreclaim, true),
        ("KernelStack", info.kernelstack, true),
        ("PageTables", info.pagetables, true),
        ("NFSUnstable", info.nfsunstable, true),
        ("Bounce", info.bounce, true),
        ("WritebackTmp", info.writebacktmp, true),
        ("CommitLimit", info.commitlimit, true),
        ("CommittedAS", info.committedas, true),
        ("VmallocTotal", info.vmalloctotal, true),
        ("VmallocUsed", info.vmallocused, true),
        ("VmallocChunk", info.vmallocchunk, true),
        ("HardwareCorrupted", info.hardwarecorrupted, true),
        ("AnonHugePages", info.anonhugepages, true),
        ("ShmemHugePages", info.shmemhugepages, true),
        ("ShmemPmdMapped", info.shmempmdmapped, true),
        ("CmaTotal", info.cmatotal, true),
        ("CmaFree", info.cmafree, true),
        ("HugePagesTotal", info.hugepagestotal, false),
        ("HugePagesFree", info.hugepagesfree, false),
        ("HugePagesRsvd", info.hugepagesrsvd, false),
        ("HugePagesSurp", info.hugepagessurp, false),
        ("Hugepagesize", info.hugepagesize, true),
        ("DirectMap4k", info.directmap4k, true),
        ("DirectMap2M", info.directmap2m, true),
        ("DirectMap1G", info.directmap1g, true),
    ]
}

/// `mounts`. File systems without a size (proc, sysfs) are left out.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn mounts(replies: &[(String, Vec<Mounts>)]) -> Listing {
    let header =
        ["NODE", "FILESYSTEM", "SIZE(GB)", "USED(GB)", "AVAILABLE(GB)", "PERCENT USED", "MOUNTED ON"];
    let mut listing = Listing::new(&header);
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        for one in message.stats.iter().filter(|one| one.size > 0) {
            let used = one.size.saturating_sub(one.available);
            let gigabytes = |bytes: u64| format!("{:.2}", bytes as f64 * 1e-9);
            listing.push(
                vec![
                    node.to_owned(),
                    one.filesystem.clone(),
                    gigabytes(one.size),
                    gigabytes(used),
                    gigabytes(one.available),
                    format!("{:.2}%", 100.0 * used as f64 / one.size as f64),
                    one.mounted_on.clone(),
                ],
                json!({
                    "node": node, "filesystem": one.filesystem, "size": one.size, "available": one.available,
                    "mountedOn": one.mounted_on,
                }),
            );
        }
    }
    listing
}

/// `processes`, the largest first; `by_cpu`: the longest at work first.
pub fn processes(replies: &[(String, Vec<Process>)], by_cpu: bool) -> Listing {
    let header = ["NODE", "PID", "STATE", "THREADS", "CPU-TIME", "VIRTMEM", "RESMEM", "COMMAND"];
    let mut listing = Listing { gap: 2, ..Listing::new(&header) };
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        let mut processes: Vec<&ProcessInfo> = message.processes.iter().collect();
        processes.sort_by(|left, right| {
            let by_cpu_time = right.cpu_time.total_cmp(&left.cpu_time);
            let by_memory = right.resident_memory.cmp(&left.resident_memory);
            if by_cpu { by_cpu_time } else { by_memory }
        });
        for one in processes {
            let command = command(one);
            listing.push(
                vec![
                    node.to_owned(),
                    one.pid.to_string(),
                    one.state.clone(),
                    one.threads.to_string(),
                    format!("{:.2}", one.cpu_time),
                    times::bytes(one.virtual_memory),
                    times::bytes(one.resident_memory),
                    command.clone(),
                ],
                json!({
                    "node": node, "pid": one.pid, "ppid": one.ppid, "state": one.state, "threads": one.threads,
                    "cpuTime": one.cpu_time, "virtualMemory": one.virtual_memory,
                    "residentMemory": one.resident_memory, "command": command,
                }),
            );
        }
    }
    listing
}

/// The command line with the program's path in place of its bare name.
fn command(process: &ProcessInfo) -> String {
    if process.executable.is_empty() {
        return process.command.clone();
    }
    let mut words = process.args.splitn(2, ' ');
    let (first, rest) = (words.next().unwrap_or_default(), words.next());
    let name = process.executable.rsplit('/').next().unwrap_or_default();
    if process.args.is_empty() || first == name {
        let rest = rest.map(|rest| format!(" {rest}")).unwrap_or_default();
        return format!("{}{rest}", process.executable);
    }
    process.args.clone()
}

/// `version`'s part about one node.
pub fn version(asked: &str, version: &Version) -> (String, Value) {
    let node = node_name(version.metadata.as_ref(), asked);
    let info = version.version.clone().unwrap_or_default();
    let rbac = version.features.is_some_and(|features| features.rbac);
    let platform = version.platform.clone().unwrap_or_default();
    let mut lines = vec![("NODE", node.to_owned()), ("Tag", info.tag.clone())];
    for (name, value) in [("SHA", &info.sha), ("Built", &info.built), ("Go version", &info.go_version)] {
        if !value.is_empty() {
            lines.push((name, value.clone()));
        }
    }
    lines.push(("OS/Arch", format!("{}/{}", info.os, info.arch)));
    if !platform.name.is_empty() {
        lines.push(("Platform", format!("{} ({})", platform.name, platform.mode)));
    }
    lines.push(("Enabled", if rbac { "RBAC".to_owned() } else { String::new() }));
    let text: String = lines
        .iter()
        .map(|(name, value)| {
            let line = format!("{:<13}{}", format!("{name}:"), crate::table::printable(value));
            format!("\t{}\n", line.trim_end())
        })
        .collect();
    let item = json!({
        "node": node, "tag": info.tag, "sha": info.sha, "built": info.built, "os": info.os, "arch": info.arch,
        "platform": platform.name, "mode": platform.mode, "rbac": rbac,
    });
    (text, item)
}
