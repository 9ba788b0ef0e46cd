//! What everybody on the node may read of it: memory, load, CPU, processes.

use crate::places::Places;
use podium_wire::machine::{
    CpuStat, LoadAvg, MemInfo, Memory, Process, ProcessInfo, SoftIrqStat, SystemStat,
};
use std::io::Read;
use tonic::Status;

/// A file of /proc; `stat` of a machine with hundreds of CPUs has some ten KiB a hundred, and its interrupts as much.
const FILE_MAX: u64 = 1 << 20;
/// Of one process: a command line may have megabytes.
const ARGS_MAX: u64 = 4096;
/// A node with a thousand pods has some thousand.
const PROCESSES_MAX: usize = 20_000;

/// Asks the kernel for what it is asked for once, by calls that the sandbox refuses.
pub(super) fn prepare() {
    rustix::param::clock_ticks_per_second();
    rustix::param::page_size();
    let _up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
}

fn file(places: &Places, name: &str, most: u64) -> Result<String, Status> {
    let path = places.at("/proc").join(name);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| Status::internal(format!("/proc/{name}: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Load averages.
pub(super) fn load_avg(places: &Places) -> Result<LoadAvg, Status> {
    let text = file(places, "loadavg", FILE_MAX)?;
    let mut numbers = text.split(' ').map(|word| word.parse().unwrap_or(0.0));
    let mut next = || numbers.next().unwrap_or(0.0);
    Ok(LoadAvg { metadata: None, load1: next(), load5: next(), load15: next() })
}

/// Memory, in KiB.
pub(super) fn memory(places: &Places) -> Result<Memory, Status> {
    let text = file(places, "meminfo", FILE_MAX)?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let meminfo = MemInfo {
        memtotal: of("MemTotal"),
        memfree: of("MemFree"),
        memavailable: of("MemAvailable"),
        buffers: of("Buffers"),
        cached: of("Cached"),
        swapcached: of("SwapCached"),
        active: of("Active"),
        inactive: of("Inactive"),
        activeanon: of("Active(anon)"),
        inactiveanon: of("Inactive(anon)"),
        activefile: of("Active(file)"),
        inactivefile: of("Inactive(file)"),
        unevictable: of("Unevictable"),
        mlocked: of("Mlocked"),
        swaptotal: of("SwapTotal"),
        swapfree: of("SwapFree"),
        dirty: of("Dirty"),
        writeback: of("Writeback"),
        anonpages: of("AnonPages"),
        mapped: of("Mapped"),
        shmem: of("Shmem"),
        slab: of("Slab"),
        sreclaimable: of("SReclaimable"),
        sunreclaim: of("SUnreclaim"),
        kernelstack: of("KernelStack"),
        pagetables: of("PageTables"),
        nfsunstable: of("NFS_Unstable"),
        bounce: of("Bounce"),
        writebacktmp: of("WritebackTmp"),
        commitlimit: of("CommitLimit"),
        committedas: of("Committed_AS"),
        vmalloctotal: of("VmallocTotal"),
        vmallocused: of("VmallocUsed"),
        vmallocchunk: of("VmallocChunk"),
        hardwarecorrupted: of("HardwareCorrupted"),
        anonhugepages: of("AnonHugePages"),
        shmemhugepages: of("ShmemHugePages"),
        shmempmdmapped: of("ShmemPmdMapped"),
        cmatotal: of("CmaTotal"),
        cmafree: of("CmaFree"),
        hugepagestotal: of("HugePages_Total"),
        hugepagesfree: of("HugePages_Free"),
        hugepagesrsvd: of("HugePages_Rsvd"),
        hugepagessurp: of("HugePages_Surp"),
        hugepagesize: of("Hugepagesize"),
        directmap4k: of("DirectMap4k"),
        directmap2m: of("DirectMap2M"),
        directmap1g: of("DirectMap1G"),
    };
    Ok(Memory { metadata: None, meminfo: Some(meminfo) })
}

/// CPU times and counts since the boot.
pub(super) fn system_stat(places: &Places) -> Result<SystemStat, Status> {
    let text = file(places, "stat", FILE_MAX)?;
    let mut stat = SystemStat::default();
    let ticks = ticks();
    for line in text.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        match name {
            "cpu" => stat.cpu_total = Some(cpu(rest, ticks)),
            _ if name.starts_with("cpu") => stat.cpu.push(cpu(rest, ticks)),
            "intr" => {
                stat.irq_total = numbers.next().unwrap_or(0);
                stat.irq = numbers.collect();
            }
            "ctxt" => stat.context_switches = numbers.next().unwrap_or(0),
            "btime" => stat.boot_time = numbers.next().unwrap_or(0),
            "processes" => stat.process_created = numbers.next().unwrap_or(0),
            "procs_running" => stat.process_running = numbers.next().unwrap_or(0),
            "procs_blocked" => stat.process_blocked = numbers.next().unwrap_or(0),
            "softirq" => {
                let mut next = || numbers.next().unwrap_or(0);
                stat.soft_irq_total = next();
                stat.soft_irq = Some(SoftIrqStat {
                    hi: next(),
                    timer: next(),
                    net_tx: next(),
                    net_rx: next(),
                    block: next(),
                    block_io_poll: next(),
                    tasklet: next(),
                    sched: next(),
                    hrtimer: next(),
                    rcu: next(),
                });
            }
            _ => {}
        }
    }
    Ok(stat)
}

/// Ticks of the kernel's clock in a second.
fn ticks() -> f64 {
    f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}

fn cpu(line: &str, ticks: f64) -> CpuStat {
    let mut seconds = line.split_whitespace().map(|word| word.parse::<f64>().unwrap_or(0.0) / ticks);
    let mut next = || seconds.next().unwrap_or(0.0);
    CpuStat {
        user: next(),
        nice: next(),
        system: next(),
        idle: next(),
        iowait: next(),
        irq: next(),
        soft_irq: next(),
        steal: next(),
        guest: next(),
        guest_nice: next(),
    }
}

/// All processes. One that ends meanwhile is left out.
pub(super) fn processes(places: &Places) -> Result<Process, Status> {
    let entries =
        std::fs::read_dir(places.at("/proc")).map_err(|error| Status::internal(format!("/proc: {error}")))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut pids: Vec<i32> = pids.take(PROCESSES_MAX).collect();
    pids.sort_unstable();
    let (ticks, page) = (ticks(), u64::try_from(rustix::param::page_size()).unwrap_or(4096));
    let processes = pids.into_iter().filter_map(|pid| process(places, pid, ticks, page));
    Ok(Process { metadata: None, processes: processes.collect() })
}

/// From `stat`, whose second word is a name in parentheses that may hold anything.
fn process(places: &Places, pid: i32, ticks: f64, page: u64) -> Option<ProcessInfo> {
    let stat = file(places, &format!("{pid}/stat"), FILE_MAX).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    // The first word here is the third of the line.
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |place: usize| words.get(place - 3).and_then(|word| word.parse::<i64>().ok()).unwrap_or(0);
    let unsigned = |place: usize| u64::try_from(number(place)).unwrap_or(0);
    let args = file(places, &format!("{pid}/cmdline"), ARGS_MAX).unwrap_or_default();
    let args = args.trim_end_matches('\0').replace('\0', " ");
    let seconds = |place: usize| f64::from(u32::try_from(number(place)).unwrap_or(u32::MAX)) / ticks;
    Some(ProcessInfo {
        pid,
        ppid: i32::try_from(number(4)).unwrap_or(0),
        state: (*words.first()?).to_owned(),
        threads: i32::try_from(number(20)).unwrap_or(0),
        cpu_time: seconds(14) + seconds(15),
        virtual_memory: unsigned(23),
        resident_memory: unsigned(24).saturating_mul(page),
        command: name.to_owned(),
        // Only its owner may see the link.
        executable: args
            .split(' ')
            .next()
            .filter(|word| word.starts_with('/'))
            .unwrap_or_default()
            .to_owned(),
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let places = Places::below(None);
        assert!(memory(&places).unwrap().meminfo.unwrap().memtotal > 1000);
        let stat = system_stat(&places).unwrap();
        assert!(stat.boot_time > 1_000_000_000 && !stat.cpu.is_empty() && stat.context_switches > 0);
        let own = i32::try_from(std::process::id()).unwrap();
        let processes = processes(&places).unwrap().processes;
        let own = processes.iter().find(|process| process.pid == own).unwrap();
        assert!(own.resident_memory > 0 && own.threads > 0 && !own.args.is_empty(), "{own:?}");
        assert!(load_avg(&places).is_ok());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/7")).unwrap();
        let stat = format!("7 (a) b (c) S 1 {}", "2 ".repeat(40));
        std::fs::write(root.path().join("proc/7/stat"), stat).unwrap();
        let processes = processes(&Places::below(Some(root.path()))).unwrap().processes;
        assert_eq!((processes[0].command.as_str(), processes[0].ppid), ("a) b (c", 1));
    }
}
