//! The tests' hand inside a node, which has no shell and no API: a static pod that answers over HTTP.
//!
//! `guest serve PORT` in a privileged pod that shares the node's processes and network: it lists and kills processes,
//! and reads and writes the node's files through `/proc/1/root`. `guest crowd N` is a process with N sleeping
//! children, `guest exit CODE` one that ends, `guest bomb GROUP` one that forks as often as its cgroup lets it,
//! `guest eat MIB` one that takes memory. `guest sleep` waits, `guest true` ends, `guest inside PROGRAM` becomes a
//! program of the node. It is in the test flavour of the image only.

#[path = "guest/change.rs"]
mod change;
#[path = "guest/processes.rs"]
mod processes;
#[path = "guest/tree.rs"]
mod tree;

use anyhow::{Context, Result, bail, ensure};
use change::change;
use podium_tests::{react, tamper};
use processes::{orphans, processes, signal};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::thread::move_into_link_name_space;
use serde_json::json;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// A client that says nothing must not hold up the next.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", port] => serve(port.parse()?),
        ["true"] => Ok(()),
        ["there", what, path, text, number] => {
            let mounts = File::open("/proc/1/ns/mnt")?;
            move_into_link_name_space(mounts.as_fd(), None).context("the node's mounts")?;
            change(&what.replace('+', " "), &node_path(path), &decode(text)?, number.parse()?)
        }
        ["inside", words @ ..] => become_inside(words),
        ["crowd", count] => crowd(count.parse()?),
        // Further words tell one sleeper from another.
        ["sleep", ..] => sleep(),
        // For a file system that does not answer.
        ["waits", path] => Ok(fs::metadata(path).map(drop)?),
        ["exit", code] => exit(code.parse()?),
        ["bomb", group] => bomb(group),
        ["eat", mebibytes] => eat(mebibytes.parse()?),
        _ => bail!(
            "guest serve PORT | crowd N | bomb GROUP | eat MIB | sleep [WORD ...] | exit CODE | true | inside PROGRAM [ARGUMENT ...]"
        ),
    }
}

fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("port {port}"))?;
    println!("listening on {port}");
    for client in listener.incoming() {
        let client = client?;
        let answered = move || {
            if let Err(error) = answer(&client) {
                eprintln!("{error:#}");
            }
        };
        // Some tests take the room for threads: then that client has no answer, and a later one has.
        if let Err(error) = thread::Builder::new().spawn(answered) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn answer(mut client: &TcpStream) -> Result<()> {
    client.set_read_timeout(Some(CLIENT_LIMIT))?;
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The headers are read to their end: closing with unread bytes would reset the connection.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let target = request.split_whitespace().nth(1).context("no request")?;
    let (status, body) = match act(target) {
        Ok(body) => ("200 OK", body),
        Err(error) => ("500 Failed", format!("{error:#}\n").into_bytes()),
    };
    write!(client, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    client.write_all(&body)?;
    Ok(())
}

fn act(target: &str) -> Result<Vec<u8>> {
    let (verb, query) = target.split_once('?').unwrap_or((target, ""));
    let words: HashMap<&str, &str> = query.split('&').filter_map(|word| word.split_once('=')).collect();
    let word = |name: &str| words.get(name).copied().with_context(|| format!("{verb}: {name} is missing"));
    match verb {
        "/" => Ok(b"guest\n".to_vec()),
        "/ps" => Ok(json!(processes()?).to_string().into_bytes()),
        "/cat" => {
            let path = followed(node_path(word("path")?))?;
            fs::read(&path).with_context(|| path.display().to_string())
        }
        "/ls" => {
            let path = node_path(word("path")?);
            let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<Result<Vec<_>>>()?;
            names.sort();
            Ok(json!(names).to_string().into_bytes())
        }
        "/tree" => {
            let path = word("path")?;
            Ok(json!(tree::tree(&node_path(path), path)?).to_string().into_bytes())
        }
        "/mode" => {
            let path = node_path(word("path")?);
            let file = fs::metadata(&path).with_context(|| path.display().to_string())?;
            Ok((file.permissions().mode() & 0o7777).to_string().into_bytes())
        }
        "/link" => {
            let path = node_path(word("path")?);
            let target = fs::read_link(&path).with_context(|| path.display().to_string())?;
            Ok(target.to_string_lossy().into_owned().into_bytes())
        }
        "/write" => {
            let path = node_path(word("path")?);
            fs::write(&path, word("text")?).with_context(|| path.display().to_string())?;
            Ok(Vec::new())
        }
        "/remove" => {
            let path = node_path(word("path")?);
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
            Ok(Vec::new())
        }
        // The same as a process of the node itself, for which its mounts are its own.
        "/there" => {
            let path = word("path")?;
            inside("there", &[word("what")?, path, word("text")?, word("number")?])
                .with_context(|| path.to_owned())
                .map(|()| Vec::new())
        }
        "/do" => {
            let text = word("text").map_or(Ok(Vec::new()), decode)?;
            let number = word("number").map_or(Ok(0), str::parse)?;
            change(&word("what")?.replace('+', " "), &node_path(word("path")?), &text, number)
                .with_context(|| target.split("&text=").next().unwrap_or_default().to_owned())
                .map(|()| Vec::new())
        }
        "/react" => {
            let (pods, mark) = (word("pods")?.parse()?, word("mark")?);
            let idle = Some(react::idle()?);
            let seen = react::reaction(Path::new(ROOT), &text(word("text")?)?, pods, mark)?;
            Ok(json!(react::Reaction { idle, ..seen }).to_string().into_bytes())
        }
        "/gap" => {
            react::idle()?;
            let gap = react::gap(Path::new(ROOT), &text(word("text")?)?, word("port")?.parse()?)?;
            Ok(gap.to_string().into_bytes())
        }
        "/settle" => {
            react::settle(Path::new(ROOT), &text(word("text")?)?, word("port")?.parse()?)?;
            Ok(Vec::new())
        }
        "/ctl" => ctl(&text(word("words")?)?),
        "/tag" => {
            inside(
                "inside",
                &["/usr/bin/ctr", "-n", "k8s.io", "images", "tag", word("image")?, word("name")?],
            )?;
            Ok(Vec::new())
        }
        "/fill" => fill(word("path")?),
        "/line" => line(word("socket")?, word("hex")?),
        "/status" => status(word("port")?.parse()?, word("path")?),
        "/http" => ask(word("port")?.parse()?, word("path")?),
        "/kill" => {
            signal(word("pid")?.parse()?, word("signal")?.parse()?)?;
            Ok(Vec::new())
        }
        "/tamper" => {
            match word("how")? {
                "panic" => tamper::fail_each_close(1)?,
                "fault" => tamper::fault(1)?,
                "hang" => tamper::hang(1)?,
                other => bail!("no such failure: {other}"),
            }
            Ok(Vec::new())
        }
        "/bomb" => {
            let output = Command::new(std::env::current_exe()?).args(["bomb", word("group")?]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
            Ok(output.stdout)
        }
        "/orphans" => Ok(orphans(word("crowd")?.parse()?)?.to_string().into_bytes()),
        _ => bail!("no such verb: {verb}"),
    }
}

/// The node's root as this container sees it.
const ROOT: &str = "/proc/1/root";

/// A path of the node as the node sees it, not as this container does.
fn node_path(path: &str) -> PathBuf {
    PathBuf::from(format!("{ROOT}{path}"))
}

/// Where a link of the node leads there: followed from here, an absolute one would lead to a file of this pod.
fn followed(path: PathBuf) -> Result<PathBuf> {
    // Those of proc lead to the right file by themselves, whatever they seem to say.
    if path.starts_with(format!("{ROOT}/proc")) || !path.is_symlink() {
        return Ok(path);
    }
    let target = fs::read_link(&path).with_context(|| path.display().to_string())?;
    Ok(if target.is_absolute() { node_path(&target.to_string_lossy()) } else { path })
}

/// Runs a verb of this program in a process of its own, which may leave for the node's root or mounts.
fn inside(verb: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(std::env::current_exe()?).arg(verb).args(words).output()?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// `init ctl` inside the node, with words separated by blanks: exit code, then what it printed.
fn ctl(words: &str) -> Result<Vec<u8>> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["inside", "/usr/sbin/init", "ctl"]).args(words.split(' ')).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ok(json!({"ok": output.status.success(), "out": out, "err": err}).to_string().into_bytes())
}

/// Becomes that program.
fn become_inside(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    rustix::process::chroot(ROOT).context("chroot")?;
    std::env::set_current_dir("/")?;
    Err(Command::new(program).args(arguments).exec()).context((*program).to_owned())
}

fn text(hex: &str) -> Result<String> {
    Ok(String::from_utf8(decode(hex)?)?)
}

/// Bytes on their way through a query: hexadecimal, so that no letter of theirs means anything to a URL.
fn decode(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes();
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.chunks(2).map(byte).collect()
}

/// Makes a file that takes all of its file system; how many bytes it takes. Blocks are reserved, not written, for
/// writing gigabytes takes minutes under emulation; what cannot be reserved any more is written.
fn fill(path: &str) -> Result<Vec<u8>> {
    let path = node_path(path);
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let is_full = |errno: rustix::io::Errno| errno == rustix::io::Errno::NOSPC;
    let (mut bytes, mut step) = (0_u64, 1_u64 << 30);
    while step >= 4096 {
        match fallocate(&file, FallocateFlags::empty(), bytes, step) {
            Ok(()) => bytes += step,
            Err(errno) if is_full(errno) => step /= 2,
            Err(errno) => return Err(errno).with_context(|| path.display().to_string()),
        }
    }
    file.seek(SeekFrom::Start(bytes))?;
    loop {
        match file.write(&[b'x'; 4096]) {
            Ok(written) => bytes += written as u64,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) => break,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    Ok(json!({"bytes": bytes}).to_string().into_bytes())
}

/// Sends a line, given in hexadecimal, to a unix socket of the node; its answer is one line as well.
fn line(socket: &str, hex: &str) -> Result<Vec<u8>> {
    let stream = UnixStream::connect(node_path(socket)).with_context(|| socket.to_owned())?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    let digits = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).context("half a byte"));
    let bytes = digits.map(|digits| Ok(u8::from_str_radix(digits?, 16)?)).collect::<Result<Vec<u8>>>()?;
    (&stream).write_all(&bytes)?;
    (&stream).write_all(b"\n")?;
    let mut answer = Vec::new();
    BufReader::new(&stream).read_until(b'\n', &mut answer)?;
    Ok(answer)
}

/// The status with which a server of the node answers over TLS to a client without a certificate, that trusts anybody.
fn status(port: u16, path: &str) -> Result<Vec<u8>> {
    let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
    let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false);
    let agent: ureq::Agent = config.timeout_global(Some(CLIENT_LIMIT)).build().into();
    let answer = agent.get(format!("https://127.0.0.1:{port}{path}")).call()?;
    Ok(answer.status().as_u16().to_string().into_bytes())
}

/// Asks a server of the node that listens on its loopback only.
fn ask(port: u16, path: &str) -> Result<Vec<u8>> {
    podium_tests::http::try_get(port, path).map(String::into_bytes)
}

/// Has `count` children that sleep, and tells when they are all there.
fn crowd(count: usize) -> Result<()> {
    let program = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::with_capacity(count);
    for _ in 0..count {
        children.push(Command::new(&program).arg("sleep").spawn()?);
    }
    println!("{} children", children.len());
    sleep()
}

/// Takes so much memory, page by page, and keeps it.
fn eat(mebibytes: usize) -> Result<()> {
    let eaten: Vec<Vec<u8>> = (0..mebibytes).map(|_| vec![1; 1 << 20]).collect();
    println!("{} MiB", eaten.len());
    sleep()
}

/// Joins a cgroup of the node and starts children there until no more can be started; prints how many there were.
fn bomb(group: &str) -> Result<()> {
    let procs = node_path(&format!("/sys/fs/cgroup/{group}/cgroup.procs"));
    fs::write(&procs, "0").with_context(|| procs.display().to_string())?;
    let program = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::new();
    let refused = loop {
        match Command::new(&program).arg("sleep").spawn() {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
    };
    println!("{}", children.len());
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    let is_limit = refused.raw_os_error() == Some(rustix::io::Errno::AGAIN.raw_os_error());
    if is_limit { Ok(()) } else { Err(refused).context("start a child") }
}

#[expect(clippy::exit, reason = "ending with a code is what it is asked for")]
fn exit(code: i32) -> Result<()> {
    std::process::exit(code)
}

fn sleep() -> Result<()> {
    loop {
        thread::park();
    }
}
