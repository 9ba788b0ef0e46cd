//! A network without DHCP, which then gets it: pods do not wait for ever, and what a server gives takes effect when it
//! comes. The server is the test's own and gives what QEMU's does not: a host name, a domain, a time server.

use super::support::{BOOT_LIMIT, HAND, HELLO, config, on_a_used_disk, options};
use anyhow::{Context, Result, ensure};
use podium_tests::hand::{self, Hand};
use podium_tests::inline;
use podium_tests::lan::{Lan, Lease, Packet};
use podium_tests::markers::READY;
use podium_tests::qemu::Machine;
use std::net::Ipv4Addr;

const LEASE: Lease = Lease {
    address: Ipv4Addr::new(10, 9, 0, 42),
    router: Ipv4Addr::new(10, 9, 0, 1),
    nameserver: Ipv4Addr::new(10, 9, 0, 53),
    time_server: Ipv4Addr::new(10, 9, 0, 123),
    hostname: "By-DHCP",
    domain: "lan.example.org",
};

#[test]
fn without_dhcp_pods_run_and_what_it_gives_later_takes_effect() -> Result<()> {
    on_a_used_disk(|disk| {
        let lan = Lan::new()?;
        let config = config(&[HELLO, HAND]);
        let mut options = options(disk, &[inline::gzip(config.as_bytes())?], &[])?;
        options.network = false;
        options.arguments = lan.card("52:54:00:0a:09:00");
        options.arguments.extend(["-device", "pcie-root-port,id=slot1,chassis=1"].map(str::to_owned));
        let mut machine = Machine::start(&options)?;
        machine.wait(READY, BOOT_LIMIT).context("without DHCP")?;
        let lines = machine.console.lines();
        ensure!(!lines.iter().any(|line| line.text.contains("podium: network: eth0 ")), "it has an address");

        lan.serve_dhcp(LEASE);
        machine.wait("podium: network: eth0 10.9.0.42/24 by DHCP", BOOT_LIMIT)?;
        machine.wait("podium: network: this node is by-dhcp", BOOT_LIMIT)?;
        let is_question = |packet: &Packet| packet.to == LEASE.time_server && packet.port == 123;
        lan.wait("a question for the time", BOOT_LIMIT, is_question)?;

        // There was no way in until now.
        let port = machine.plug_card("slot1", hand::PORT)?;
        let hand = Hand::at(port, BOOT_LIMIT)?;
        let names = hand.read("/etc/resolv.conf")?;
        // The first card's come first; the second has servers of its own.
        ensure!(
            names.contains("nameserver 10.9.0.53\n") && names.contains("search lan.example.org"),
            "{names}"
        );
        ensure!(hand.read("/etc/hostname")? == "by-dhcp\n");
        ensure!(hand.read("/proc/sys/kernel/hostname")? == "by-dhcp\n");
        let hosts = hand.read("/etc/hosts")?;
        ensure!(hosts.contains("10.9.0.42 by-dhcp\n"), "{hosts}");
        let sources = hand.read("/run/podium/chrony/sources/podium.sources")?;
        ensure!(sources == "server 10.9.0.123 iburst\n", "{sources}");
        // It has a helper of its own.
        let clocks = hand.processes()?.into_iter().filter(|process| process.name == "chronyd");
        let ours = clocks.filter(|process| process.parent == 1).collect::<Vec<_>>();
        ensure!(ours.len() == 1, "{ours:?}");
        Ok(())
    })
}
