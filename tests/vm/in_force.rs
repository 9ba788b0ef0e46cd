//! What a config and the image's own defaults set, as a booted node has it: one node whose config has every kind of key,
//! which is then plugged new devices into, panics, faults, and has kept what it should.

use super::mounts::each_is_in_its_place;
use super::support::{BOOT_LIMIT, HAND, extra, on_a_used_disk, options};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::disk::Disk;
use podium_tests::hand::{self, Hand};
use podium_tests::lan::{Lan, Packet};
use podium_tests::qemu::Machine;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// Of the second card, which is on a network of the test's own.
const MAC: &str = "52:54:00:0a:09:00";

/// `PORT` is the mirror's.
const SETTINGS: &str = "  network:
    hostname: Node-7
    nameservers: [10.0.2.3, 10.9.0.53]
    searchDomains: [a.example.org, b.example.org]
    extraHostEntries: [{ip: 10.9.0.20, aliases: [registry.example.org, other]}]
    interfaces:
      - {interface: eth0, dhcp: true}
      - deviceSelector: {hardwareAddr: '52:54:00:0A:*', driver: virtio_net}
        addresses: [10.9.0.10/24, 10.9.1.10/24, 'fd09::10/64']
        mtu: 1400
        routes:
          - {network: 10.77.0.0/16, gateway: 10.9.0.1}
          - {network: 10.78.0.0/16, gateway: 10.9.0.2, metric: 77}
          - {network: 10.79.0.0/16}
          - {network: 'fd77::/64', gateway: 'fd09::1'}
  time: {servers: [10.77.0.123, 10.78.0.123]}
  sysctls: {vm.swappiness: '7', net.core.somaxconn: '777', kernel.printk_ratelimit: '9'}
  sysfs: {block.vda.queue.read_ahead_kb: '64'}
  kernel: {modules: [{name: dummy, parameters: [numdummies=3]}]}
  env: {PODIUM_TEST: 'in force'}
  files:
    - {path: /var/lib/web/index.html, content: 'hello', permissions: 0o640}
    - {path: /opt/bin/tool, content: 'x', permissions: 0o755}
    - {path: /etc/cni/net.d/99-own.conflist, content: '{}', op: overwrite}
  registries:
    mirrors: {registry.example.org: {endpoints: ['http://10.0.2.2:PORT'], skipFallback: true}}
  kubelet:
    extraArgs: {v: '3'}
    extraConfig: {maxPods: 42}
    nodeIP: {validSubnets: [10.9.1.0/24, '!10.9.0.0/24']}
    extraMounts:
      - {destination: /var/mnt/disk, type: ext4, source: /dev/vdb, options: [ro, nosuid]}
      - {destination: /var/mnt/data, source: /var/lib/web, options: [rbind, rshared, noexec]}
      - {destination: /var/mnt/late, type: ext4, source: /dev/sda, options: [ro]}
  pods:";

/// Its image is in the mirror alone, if anywhere.
const MIRRORED: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: mirrored}
      spec: {containers: [{name: c, image: 'registry.example.org/a/b:1'}]}";

/// It has nothing to see until the disk is there.
const LATE: &str = "
    - apiVersion: v1
      kind: Pod
      metadata: {name: late}
      spec:
        volumes: [{name: disk, hostPath: {path: /var/mnt/late}}]
        containers:
          - name: c
            image: podium.local/guest:1
            imagePullPolicy: Never
            args: [sleep, late]
            volumeMounts: [{name: disk, mountPath: /disk, readOnly: true}]";

#[test]
fn every_kind_of_key_takes_effect_and_the_node_returns_from_its_own_death() -> Result<()> {
    on_a_used_disk(|disk| {
        let (port, requests) = mirror()?;
        let settings = SETTINGS.replace("PORT", &port.to_string());
        let text = format!("version: v1alpha1\nmachine:\n{settings}{HAND}{MIRRORED}{LATE}\n");
        let given = Disk::with_files("CFG", &[("node.yaml", text.as_bytes())])?;
        let lan = Lan::new()?;
        let mut options =
            options(disk, &["podium.config=LABEL=CFG:/node.yaml".to_owned()], &[extra(&given)])?;
        options.arguments = lan.card(MAC);
        for slot in ["slot1", "slot2"] {
            let port = format!("pcie-root-port,id={slot},chassis={}", &slot[4..]);
            options.arguments.extend(["-device".to_owned(), port]);
        }
        let mut machine = Machine::start(&options)?;
        machine.wait("podium: config from kernel command line (LABEL=CFG:/node.yaml): 3 pods", BOOT_LIMIT)?;
        machine.wait("podium: pod default/hand: running", BOOT_LIMIT)?;
        let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;

        each_is_in_its_place(&hand, &["/var/mnt/disk", "/var/mnt/data"]).context("mounts")?;
        the_network_is_as_written(&machine, &hand, &lan).context("network")?;
        the_kernel_is_set(&hand).context("kernel settings")?;
        files_and_mounts_are_there(&hand).context("files and mounts")?;
        services_are_given_their_words(&hand).context("services")?;
        let request = requests.recv_timeout(BOOT_LIMIT).context("the mirror was not asked")?;
        ensure!(request.contains("/v2/a/b/manifests/1?ns=registry.example.org"), "{request}");

        devices_may_appear_later(&mut machine, &hand, &given).context("plugged in")?;
        the_node_returns_from_a_panic(&mut machine, &hand).context("panic")?;
        the_node_returns_from_a_fault(&machine).context("fault")
    })
}

/// A registry's answer.
const NOTHING: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A registry that has nothing: its port, and the first line of each request.
fn mirror() -> Result<(u16, Receiver<String>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (sender, requests) = mpsc::channel();
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut line = String::new();
            if BufReader::new(&client).read_line(&mut line).is_ok() {
                drop(sender.send(line));
            }
            // Who does not wait for the answer has asked all the same.
            drop((&client).write_all(NOTHING));
        }
    });
    Ok((port, requests))
}

/// Every one of `parts` is in the file.
fn holds(hand: &Hand, path: &str, parts: &[&str]) -> Result<()> {
    let text = hand.read(path)?;
    for part in parts {
        ensure!(text.contains(part), "{path} lacks {part:?}:\n{text}");
    }
    Ok(())
}

fn is(hand: &Hand, path: &str, value: &str) -> Result<()> {
    let text = hand.read(path)?;
    ensure!(text.trim() == value, "{path} is {text:?} and not {value:?}");
    Ok(())
}

/// Destination and prefix, source and prefix, next hop.
const IPV6_ROUTE: &str = "fd770000000000000000000000000000 40 00000000000000000000000000000000 00 \
                          fd090000000000000000000000000001";

fn the_network_is_as_written(machine: &Machine, hand: &Hand, lan: &Lan) -> Result<()> {
    machine.wait("podium: network: eth0 10.0.2.15/24 by DHCP", BOOT_LIMIT)?;
    for address in ["10.9.0.10/24", "10.9.1.10/24", "fd09::10/64"] {
        machine.wait(&format!("podium: network: eth1 {address} by the machine config"), BOOT_LIMIT)?;
    }
    // Whoever asks for the time at an address behind a gateway has an address, that route, and those servers.
    for (server, gateway) in [([10, 77, 0, 123], [10, 9, 0, 1]), ([10, 78, 0, 123], [10, 9, 0, 2])] {
        let (server, gateway) = (Ipv4Addr::from(server), Ipv4Addr::from(gateway));
        let is_question = |packet: &Packet| packet.to == server && packet.port == 123;
        let packet = lan.wait("a question for the time", BOOT_LIMIT, is_question)?;
        ensure!(packet.hop == gateway, "{packet:?}");
    }
    // Interface, destination, gateway, flags, three counters, metric, mask; addresses in the byte order of x86.
    let routes = hand.read("/proc/1/net/route")?;
    let routes: Vec<Vec<&str>> = routes.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |wanted: [&str; 4]| {
        routes.iter().any(|route| {
            let found = [0, 1, 2, 6].map(|column| route.get(column).copied().unwrap_or_default());
            found == wanted || (wanted[3].is_empty() && found[..3] == wanted[..3])
        })
    };
    for wanted in [
        ["eth0", "00000000", "0202000A", ""],
        ["eth1", "00004D0A", "0100090A", ""],
        ["eth1", "00004E0A", "0200090A", "77"],
        ["eth1", "00004F0A", "00000000", "1024"],
    ] {
        ensure!(has(wanted), "no route {wanted:?} in {routes:#?}");
    }
    holds(hand, "/proc/1/net/ipv6_route", &[IPV6_ROUTE])?;
    is(hand, "/sys/class/net/eth1/mtu", "1400")?;
    is(hand, "/sys/class/net/eth0/mtu", "1500")?;
    is(hand, "/proc/sys/kernel/hostname", "node-7")?;
    is(hand, "/etc/hostname", "node-7")?;
    let names = ["nameserver 10.0.2.3\nnameserver 10.9.0.53\n", "search a.example.org b.example.org\n"];
    holds(hand, "/etc/resolv.conf", &names)?;
    holds(hand, "/etc/hosts", &["10.9.0.20 registry.example.org other\n", " node-7\n"])
}

/// The kernel's own protection, the kubelet's demands, and what the config puts over them.
const SYSCTLS: [(&str, &str); 29] = [
    ("vm/swappiness", "7"),
    ("net/core/somaxconn", "777"),
    ("kernel/printk_ratelimit", "9"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "10"),
    ("kernel/modprobe", "/usr/sbin/modprobe"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("fs/inotify/max_user_instances", "8192"),
    ("kernel/pid_max", "4194304"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/randomize_va_space", "2"),
    ("net/core/bpf_jit_harden", "2"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("vm/mmap_min_addr", "65536"),
    ("dev/tty/ldisc_autoload", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
];

fn the_kernel_is_set(hand: &Hand) -> Result<()> {
    for (name, value) in SYSCTLS {
        is(hand, &format!("/proc/sys/{name}"), value)?;
    }
    is(hand, "/sys/block/vda/queue/read_ahead_kb", "64")?;
    let interfaces = hand.list("/sys/class/net")?;
    let dummies = interfaces.iter().filter(|name| name.starts_with("dummy")).count();
    ensure!(dummies == 3, "the module's parameter was not heeded: {interfaces:?}");
    Ok(())
}

fn files_and_mounts_are_there(hand: &Hand) -> Result<()> {
    for (path, content, mode) in [
        ("/var/lib/web/index.html", "hello", 0o640),
        ("/opt/bin/tool", "x", 0o755),
        ("/etc/cni/net.d/99-own.conflist", "{}", 0o644),
    ] {
        is(hand, path, content)?;
        ensure!(hand.mode(path)? == mode, "{path} has mode {:o}", hand.mode(path)?);
    }
    is(hand, "/var/mnt/data/index.html", "hello")?;
    holds(hand, "/var/mnt/disk/node.yaml", &["Node-7"])?;
    let mounts = hand.read("/proc/1/mountinfo")?;
    let options = |point: &str| {
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        mounts.rfind(|fields| fields.get(4) == Some(&point)).map(|fields| fields[5..].join(" "))
    };
    let disk = options("/var/mnt/disk").context("the disk is not mounted")?;
    ensure!(disk.starts_with("ro,nosuid,") && disk.contains("ext4 /dev/vdb"), "{disk}");
    let data = options("/var/mnt/data").context("the folder is not mounted")?;
    ensure!(data.contains("noexec") && data.contains("shared:"), "{data}");
    Ok(())
}

fn services_are_given_their_words(hand: &Hand) -> Result<()> {
    let kubelet = hand.process("kubelet", "kubelet")?;
    for word in ["--v=3", "--hostname-override=node-7", "--node-ip=10.9.1.10"] {
        ensure!(kubelet.argv.iter().any(|given| given == word), "no {word} in {:?}", kubelet.argv);
    }
    let config =
        kubelet.argv.iter().find_map(|word| word.strip_prefix("--config=")).context("no --config")?;
    holds(hand, config, &["\"maxPods\": 42"])?;
    holds(hand, &format!("/proc/{}/environ", kubelet.pid), &["PODIUM_TEST=in force\0"])
}

/// A card and a disk whose drivers nothing has needed yet.
fn devices_may_appear_later(machine: &mut Machine, hand: &Hand, disk: &Disk) -> Result<()> {
    let held =
        "podium: pod default/late: held: machine.kubelet.extraMounts: nothing is mounted at /var/mnt/late";
    machine.wait(held, BOOT_LIMIT)?;
    let modules = hand.list("/sys/module")?;
    ensure!(!modules.iter().any(|name| name == "vmxnet3" || name == "virtio_scsi"), "loaded already");
    let port = machine.plug_card("slot1", hand::PORT)?;
    machine.wait("podium: network: eth2 10.0.3.15/24 by DHCP", BOOT_LIMIT)?;
    Hand::at(port, BOOT_LIMIT).context("by the new card")?;
    let file = json!({"driver": "file", "filename": disk.path(), "locking": "off"});
    let medium = json!({"driver": "raw", "node-name": "plugged-disk", "read-only": true, "file": file});
    machine.qmp().execute("blockdev-add", &medium)?;
    let controller = json!({"driver": "virtio-scsi-pci", "id": "scsi", "bus": "slot2"});
    machine.qmp().execute("device_add", &controller)?;
    let drive = json!({"driver": "scsi-hd", "bus": "scsi.0", "drive": "plugged-disk"});
    machine.qmp().execute("device_add", &drive)?;
    hand.wait("the pod that was held for the new disk", BOOT_LIMIT, |hand| {
        let process = hand.process("guest", "late")?;
        Ok(hand.read(&format!("/proc/{}/root/disk/node.yaml", process.pid)).ok())
    })
    .map(drop)
}

/// What keeps until the node is back, in each folder of the image that is writable.
const KEPT: [&str; 5] =
    ["/etc/kubernetes/kept", "/etc/cni/kept", "/opt/kept", "/usr/libexec/kubernetes/kept", "/var/kept"];

/// The way down lists the manifests, which is where it panics; what was written is on the disk all the same.
fn the_node_returns_from_a_panic(machine: &mut Machine, hand: &Hand) -> Result<()> {
    hand.make_init_panic()?;
    for path in KEPT {
        hand.write(path, "kept")?;
    }
    let from = machine.console.mark();
    // A request could not be sure of its answer.
    machine.press_power_button()?;
    let line = machine.console.wait(from, "podium: PID 1 panicked at ", BOOT_LIMIT)?;
    ensure!(line.text.ends_with("; rebooting"), "{line}");
    let hand = is_back(machine, &line)?;
    for path in KEPT {
        is(&hand, path, "kept")?;
    }
    // Nobody took its time for it: the file systems were not unmounted.
    let lines = machine.console.lines();
    ensure!(!lines.iter().any(|line| line.text.contains("podium: halt: all file systems unmounted")));
    Ok(())
}

/// Then the kernel panics, and it was told to start again.
fn the_node_returns_from_a_fault(machine: &Machine) -> Result<()> {
    let hand = Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)?;
    let from = machine.console.mark();
    hand.make_init_fault();
    let line = machine.console.wait(from, "Attempted to kill init!", BOOT_LIMIT)?;
    machine.console.wait(line.number + 1, ", node stage", BOOT_LIMIT)?;
    Ok(())
}

/// Waits until the hand answers again after `line`.
fn is_back(machine: &Machine, line: &Line) -> Result<Hand> {
    machine.console.wait(line.number, ", node stage", BOOT_LIMIT)?;
    machine.console.wait(line.number, "podium: pod default/hand: running", BOOT_LIMIT)?;
    Hand::at(machine.port(hand::PORT)?, BOOT_LIMIT)
}
