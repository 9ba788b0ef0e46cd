//! A network of the tests' own behind a machine's card: it answers ARP for any address, DHCP once it is told to, and
//! keeps what it sees of UDP. No other host is on it, no privilege is needed, and until then nobody answers DHCP.
//!
//! QEMU connects to a unix socket and sends frames, each behind its length in four bytes (`-netdev stream`).

use crate::disk::temporary_folder;
use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The largest frame that is taken: none of ours is jumbo.
const LARGEST: u32 = 65_536;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const UDP: u8 = 17;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
/// Marks the options of a BOOTP message (RFC 2131).
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What DHCP gives, with a /24 around it.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// The machine's address.
    pub address: Ipv4Addr,
    /// The server, and the default route.
    pub router: Ipv4Addr,
    /// DNS server.
    pub nameserver: Ipv4Addr,
    /// NTP server.
    pub time_server: Ipv4Addr,
    /// Host name.
    pub hostname: &'static str,
    /// Domain, to search names in.
    pub domain: &'static str,
}

/// A UDP packet that a machine has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The last four bytes of the station's MAC address: its IPv4 address, as ARP was answered.
    pub hop: Ipv4Addr,
    /// From.
    pub from: Ipv4Addr,
    /// To.
    pub to: Ipv4Addr,
    /// The destination's port.
    pub port: u16,
}

/// The network. It lives as long as this value and its machine do.
#[derive(Debug)]
pub struct Lan {
    shared: Arc<Shared>,
    socket: PathBuf,
    _folder: TempDir,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Lease>,
    packets: Vec<Packet>,
}

impl Lan {
    /// One that is silent about DHCP.
    ///
    /// # Errors
    /// No socket can be made.
    pub fn new() -> Result<Self> {
        let folder = temporary_folder()?;
        let socket = folder.path().join("lan");
        let listener = UnixListener::bind(&socket)?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            // It ends with the machine, and so with the stream.
            if let Ok((stream, _)) = listener.accept() {
                drop(serve(stream, &of_thread));
            }
        });
        Ok(Self { shared, socket, _folder: folder })
    }

    /// QEMU's arguments for a card on it with that MAC address.
    #[must_use]
    pub fn card(&self, mac: &str) -> Vec<String> {
        let socket = self.socket.display();
        let netdev = format!("stream,id=lan,server=off,addr.type=unix,addr.path={socket}");
        let card = format!("virtio-net-pci,netdev=lan,mac={mac}");
        ["-netdev", &netdev, "-device", &card].map(str::to_owned).to_vec()
    }

    /// From now on DHCP is answered.
    pub fn serve_dhcp(&self, lease: Lease) {
        lock(&self.shared.state).lease = Some(lease);
    }

    /// Waits for a packet, from the first on.
    ///
    /// # Errors
    /// None came within `limit`; with those that did.
    pub fn wait(&self, what: &str, limit: Duration, found: impl Fn(&Packet) -> bool) -> Result<Packet> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(packet) = state.packets.iter().find(|packet| found(packet)) {
                return Ok(*packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what}: not within {} s; seen were {:?}", limit.as_secs(), state.packets);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: UnixStream, shared: &Shared) -> Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > LARGEST {
            bail!("a frame of {length} bytes");
        }
        let mut frame = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut frame)?;
        let lease = lock(&shared.state).lease;
        if let Some(packet) = udp(&frame) {
            lock(&shared.state).packets.push(packet);
            shared.changed.notify_all();
        }
        let answer = arp_answer(&frame).or_else(|| dhcp_answer(&frame, &lease?));
        if let Some(answer) = answer {
            stream.write_all(&u32::try_from(answer.len())?.to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}

/// The MAC address of who has an address: every address is somebody's.
fn station(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0, a, b, c, d]
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

fn address(frame: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes::<4>(frame, at).map(Ipv4Addr::from)
}

/// What a frame holds of UDP. The guest sends no IP options and no fragments here.
fn udp(frame: &[u8]) -> Option<Packet> {
    let is_udp = bytes(frame, 12)? == IPV4 && frame.get(14) == Some(&0x45) && frame.get(23) == Some(&UDP);
    let packet = Packet {
        hop: address(frame, 2)?,
        from: address(frame, 26)?,
        to: address(frame, 30)?,
        port: u16::from_be_bytes(bytes(frame, 36)?),
    };
    is_udp.then_some(packet)
}

/// Answers "who has that address", but not one who asks for its own.
fn arp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let (sender, wanted) = (address(frame, 28)?, address(frame, 38)?);
    let is_request = bytes(frame, 12)? == ARP && bytes(frame, 20)? == [0, 1];
    if !is_request || sender == wanted || sender.is_unspecified() {
        return None;
    }
    let asker: [u8; 6] = bytes(frame, 22)?;
    let mut answer = [asker.as_slice(), &station(wanted), &ARP].concat();
    // Ethernet, IPv4, their lengths, a reply
    answer.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend(station(wanted));
    answer.extend(wanted.octets());
    answer.extend(asker);
    answer.extend(sender.octets());
    Some(answer)
}

/// An offer for a discover, an acknowledgement for a request.
fn dhcp_answer(frame: &[u8], lease: &Lease) -> Option<Vec<u8>> {
    if udp(frame)?.port != DHCP_SERVER {
        return None;
    }
    let question = frame.get(42..)?;
    let kind = match option(question.get(240..)?, 53)? {
        [1] => 2,
        [3] => 5,
        _ => return None,
    };
    // A reply over Ethernet, with the question's id, and the address.
    let mut message = vec![2, 1, 6, 0];
    message.extend(bytes::<4>(question, 4)?);
    message.extend([0; 8]);
    message.extend(lease.address.octets());
    message.extend(lease.router.octets());
    message.extend([0; 4]);
    message.extend(bytes::<16>(question, 28)?);
    message.extend([0; 192]);
    message.extend(COOKIE);
    let mut add = |code: u8, value: &[u8]| {
        message.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        message.extend(value);
    };
    add(53, &[kind]);
    add(54, &lease.router.octets());
    add(51, &3600_u32.to_be_bytes());
    add(1, &[255, 255, 255, 0]);
    add(3, &lease.router.octets());
    add(6, &lease.nameserver.octets());
    add(12, lease.hostname.as_bytes());
    add(15, lease.domain.as_bytes());
    add(42, &lease.time_server.octets());
    message.push(255);
    let to: [u8; 6] = bytes(frame, 6)?;
    datagram(to, lease, &message)
}

/// The value of a DHCP option.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] => return None,
            [code, length, rest @ ..] => {
                let (value, after) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                options = after;
            }
            _ => return None,
        }
    }
}

/// The server's message in UDP, IPv4 and Ethernet.
fn datagram(to: [u8; 6], lease: &Lease, message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len() + 8).ok()?;
    let (from_address, to_address) = (lease.router.octets(), lease.address.octets());
    let mut udp =
        [DHCP_SERVER.to_be_bytes(), DHCP_CLIENT.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    udp.extend(message);
    let pseudo = [&from_address[..], &to_address, &[0, UDP], &length.to_be_bytes(), &udp].concat();
    udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((length + 20).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    ip.extend(from_address);
    ip.extend(to_address);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    Some([&to[..], &station(lease.router), &IPV4, &ip, &udp].concat())
}

/// The internet's: the complement of the sum in ones' complement.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let sum = words.fold(0_u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_up_to_nothing() {
        // RFC 1071's example
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&example), !0xddf2);
        let whole = [&example[..], &checksum(&example).to_be_bytes()].concat();
        assert_eq!(checksum(&whole), 0);
    }

    #[test]
    fn arp_is_answered_for_others_and_not_for_the_asker() {
        let question = |sender: [u8; 4], wanted: [u8; 4]| {
            let mut frame = vec![0xff; 6];
            frame.extend([1; 6]);
            frame.extend(ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend([1; 6]);
            frame.extend(sender);
            frame.extend([0; 6]);
            frame.extend(wanted);
            frame
        };
        let answer = arp_answer(&question([10, 9, 0, 10], [10, 9, 0, 1])).unwrap();
        assert_eq!(answer[..12], [1, 1, 1, 1, 1, 1, 2, 0, 10, 9, 0, 1]);
        assert_eq!(arp_answer(&question([10, 9, 0, 10], [10, 9, 0, 10])), None);
        assert_eq!(arp_answer(&question([0; 4], [10, 9, 0, 10])), None);
        assert_eq!(arp_answer(&[0; 20]), None);
    }

    #[test]
    fn options_are_found_behind_padding_and_not_behind_the_end() {
        assert_eq!(option(&[0, 53, 1, 3, 255], 53), Some(&[3][..]));
        assert_eq!(option(&[12, 2, 9, 9, 53, 1, 1], 53), Some(&[1][..]));
        assert_eq!(option(&[255, 53, 1, 3], 53), None);
        assert_eq!(option(&[53, 9, 3], 53), None);
    }
}
