//! The real program: it answers, and ends at once when told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Started on a free port, which it names.
fn started() -> (Child, u16) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    let mut child = command.env("PORT", "0").env("POD_NAME", "demo").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().strip_prefix("hello: demo listens on port ").unwrap().parse().unwrap();
    (child, port)
}

#[test]
fn it_greets_with_the_name_of_its_pod_and_ends_on_term() {
    let (mut child, port) = started();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.contains("Hello from demo, a static pod on Podium"), "{said}");
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    let since = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "it ended at once");
}

#[test]
fn a_port_that_is_none_is_an_error_that_names_it() {
    let said = Command::new(env!("CARGO_BIN_EXE_hello")).env("PORT", "web").output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("PORT is `web`"));
}
