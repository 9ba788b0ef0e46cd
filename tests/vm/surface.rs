//! All that a node shows to others, held against the README's tables in both directions: mounts, sockets, files with
//! their modes and owners, kernel settings. What is not in a table is not there, and what is in one is. The session over the API (`api.rs`) has the
//! node for it.

use super::mounts::each_is_in_its_place;
use anyhow::{Context, Result, bail, ensure};
use podium_tests::hand::{self, Entry, Hand};
use podium_tests::readme::{self, is_like};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What the README's table of files is about.
const FOLDERS: [&str; 3] = ["/run/podium", "/system/state", "/etc/kubernetes"];
/// States in the kernel's tables of sockets.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";
/// `__SO_ACCEPTCON` in the flags of a unix socket.
const ACCEPTS: &str = "00010000";

/// Of a node with a config, keys and pods.
pub(super) fn is_as_the_readme_has_it(hand: &Hand) -> Result<()> {
    let mounts = each_is_in_its_place(hand, &[]).err().map(|error| format!("mounts: {error:#}"));
    let mounts = mounts.into_iter().collect();
    let problems = [mounts, sockets(hand)?, unix_sockets(hand)?, files(hand)?, sysctls(hand)?].concat();
    ensure!(problems.is_empty(), "not as the README has it:\n{}", problems.join("\n"));
    Ok(())
}

/// Sockets of the network on which somebody waits.
fn sockets(hand: &Hand) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for (table, protocol, state) in [
        ("tcp", "tcp", LISTENS),
        ("tcp6", "tcp", LISTENS),
        ("udp", "udp", UNCONNECTED),
        ("udp6", "udp", UNCONNECTED),
    ] {
        for line in hand.read(&format!("/proc/1/net/{table}"))?.lines().skip(1) {
            // number, address:port, peer, state
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, port) =
                fields.get(1).and_then(|field| field.split_once(':')).context("no address")?;
            let port = u16::from_str_radix(port, 16)?;
            if fields.get(3) == Some(&state) && port != hand::PORT {
                found.insert((protocol, address_of(address)?, port));
            }
        }
    }
    let mut problems = Vec::new();
    for row in readme::table("sockets", 4)? {
        let [protocol, address, port, _] = &row[..] else { bail!("{row:?}") };
        let before = found.len();
        // A port that is any free one is written as such.
        found.retain(|(its_protocol, its_address, its_port)| {
            let is_port = port == "any" || *port == its_port.to_string();
            !(its_protocol == protocol && is_like(address, its_address) && is_port)
        });
        if before == found.len() {
            problems.push(format!("{protocol} {address} {port}: nobody listens"));
        }
    }
    problems.extend(
        found
            .iter()
            .map(|(protocol, address, port)| format!("{protocol} {address} {port}: not in the README")),
    );
    Ok(problems)
}

/// As the kernel prints it: words of four bytes in the machine's byte order.
fn address_of(hex: &str) -> Result<String> {
    let word = |at: usize| -> Result<u32> {
        let digits = hex.get(at * 8..at * 8 + 8).context("a short address")?;
        Ok(u32::from_str_radix(digits, 16)?.swap_bytes())
    };
    if hex.len() == 8 {
        return Ok(Ipv4Addr::from(word(0)?).to_string());
    }
    let mut bytes = [0; 16];
    for (at, part) in bytes.chunks_mut(4).enumerate() {
        part.copy_from_slice(&word(at)?.to_be_bytes());
    }
    Ok(Ipv6Addr::from(bytes).to_string())
}

/// Unix sockets with a listener below /run/podium; whether the files of sockets are there is told with the files.
fn unix_sockets(hand: &Hand) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for line in hand.read("/proc/1/net/unix")?.lines().skip(1) {
        // number, references, protocol, flags, type, state, inode, path
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, flags, _, _, _, path] = fields[..]
            && flags == ACCEPTS
            && path.starts_with("/run/podium/")
        {
            found.insert(path.to_owned());
        }
    }
    let listed: Vec<String> = readme::table("files", 5)?
        .into_iter()
        .filter(|row| row.get(1).is_some_and(|kind| kind == "socket"))
        .filter_map(|row| row.into_iter().next())
        .collect();
    let unknown = found.iter().filter(|path| !listed.iter().any(|row| is_like(row, path)));
    Ok(unknown.map(|path| format!("{path}: somebody listens, and it is not in the README")).collect())
}

/// Every file, each by the first row of the table that means it.
fn files(hand: &Hand) -> Result<Vec<String>> {
    let rows = readme::table("files", 5)?;
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for folder in FOLDERS {
        for Entry { path, kind, mode, owner: (user, group) } in hand.tree(folder)? {
            let have = [kind, format!("{mode:04o}"), format!("{user}:{group}")];
            let row = rows.iter().position(|row| row.first().is_some_and(|pattern| is_like(pattern, &path)));
            match row.and_then(|row| Some((row, rows.get(row)?.get(1..4)?))) {
                Some((row, wanted)) if wanted == have => drop(used.insert(row)),
                Some((_, wanted)) => {
                    problems.push(format!("{path}: {} and not {}", have.join(" "), wanted.join(" ")));
                }
                None => problems.push(format!("{path}: {}: not in the README", have.join(" "))),
            }
        }
    }
    let missing = rows.iter().enumerate().filter(|(row, cells)| {
        // Some are there at times only, which their row says in the first words.
        let is_at_times = cells.get(4).is_some_and(|meaning| meaning.starts_with("At times:"));
        !used.contains(row) && !is_at_times
    });
    problems.extend(missing.map(|(_, row)| format!("{}: not on the node", row.join(" "))));
    Ok(problems)
}

/// What the node sets for itself. What a kernel does not have cannot be set.
fn sysctls(hand: &Hand) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for row in readme::table("sysctls", 2)? {
        let [name, value] = &row[..] else { bail!("{row:?}") };
        let Ok(have) = hand.read(&format!("/proc/sys/{}", name.replace('.', "/"))) else {
            problems.extend(
                (!NOT_IN_THIS_KERNEL.contains(&name.as_str())).then(|| format!("{name}: no such setting")),
            );
            continue;
        };
        if have.trim() != value {
            problems.push(format!("{name} is {} and not {value}", have.trim()));
        }
    }
    Ok(problems)
}

/// It came with Linux 6.2.
const NOT_IN_THIS_KERNEL: [&str; 1] = ["dev.tty.legacy_tiocsti"];
