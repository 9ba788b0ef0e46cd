//! The demo pod: answers HTTP on port 8080 (or `$PORT`) with a greeting, its pod's name and how long it has been up.
//!
//! One connection at a time, one request a connection; a client has two seconds and 8 KiB for its request, so a slow
//! or endless one holds nobody up for long. SIGTERM and SIGINT end it at once, as PID 1 of its container too.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Where it listens unless `$PORT` says otherwise; the image's machine config maps a port of the node to it.
const PORT: u16 = 8080;
/// How long a client may take for its request, and for taking the answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(2);
/// How large a request may be; a browser's is below 2 KiB.
const REQUEST_LIMIT: usize = 8 * 1024;
/// A pause after a failed accept, so that a lack of descriptors is not a busy loop.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("hello {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The handler ends the process itself: nothing is open that would need care.
        signal_hook::flag::register_conditional_shutdown(signal, 0, std::sync::Arc::new(true.into()))?;
    }
    let since = Instant::now();
    let name = pod_name();
    let port = match std::env::var("PORT") {
        Ok(text) => {
            text.parse().map_err(|_| io::Error::other(format!("PORT is `{text}`, not a port number")))?
        }
        Err(_) => PORT,
    };
    // Answers IPv4 too where the kernel has IPv6; else IPv4 alone.
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        .or_else(|_| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))))?;
    println!("hello: {name} listens on port {}", listener.local_addr()?.port());
    loop {
        let done = listener.accept().and_then(|(client, _)| answer(client, &name, since.elapsed()));
        if let Err(error) = done {
            eprintln!("hello: {error}");
            std::thread::sleep(ACCEPT_DELAY);
        }
    }
}

/// The pod's name by the downward API, else the host name, which is the pod's name too unless it is hostNetwork.
fn pod_name() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host =
        || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    set("POD_NAME").or_else(|| set("HOSTNAME")).or_else(host).unwrap_or_else(|| "a pod".to_owned())
}

fn answer(mut client: TcpStream, name: &str, uptime: Duration) -> io::Result<()> {
    client.set_write_timeout(Some(CLIENT_LIMIT))?;
    let until = Instant::now() + CLIENT_LIMIT;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    let complete = loop {
        if ends(&request) {
            break true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if request.len() > REQUEST_LIMIT || left.is_zero() {
            break false;
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => break false,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    };
    if !complete && request.is_empty() {
        // A probe that only connects gets no answer, and is no fault.
        return Ok(());
    }
    // A client that has gone is its own business.
    client.write_all(&response(&request, complete, name, uptime)).or(Ok(()))
}

fn ends(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n") || request.windows(2).any(|end| end == b"\n\n")
}

fn response(request: &[u8], complete: bool, name: &str, uptime: Duration) -> Vec<u8> {
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    let (status, body) = match (complete, method) {
        (true, b"GET" | b"HEAD") => (
            "200 OK",
            format!("Hello from {name}, a static pod on Podium, up for {:.1} s.\n", uptime.as_secs_f64()),
        ),
        (true, _) => ("405 Method Not Allowed", "only GET and HEAD are answered\n".to_owned()),
        (false, _) => ("400 Bad Request", "the request was too large, too slow or cut off\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if method == b"HEAD" { String::new() } else { body };
    [head, body].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: &[u8], complete: bool) -> String {
        String::from_utf8(response(request, complete, "hello", Duration::from_millis(1500))).unwrap()
    }

    #[test]
    fn a_get_is_answered_with_name_and_uptime() {
        let text = text(b"GET / HTTP/1.1\r\n\r\n", true);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "Hello from hello, a static pod on Podium, up for 1.5 s.\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    }

    #[test]
    fn a_head_has_the_length_without_the_body() {
        let text = text(b"HEAD / HTTP/1.1\r\n\r\n", true);
        assert!(text.ends_with("\r\n\r\n") && text.contains("Content-Length: 5"), "{text}");
    }

    #[test]
    fn other_methods_and_cut_off_requests_are_refused() {
        assert!(text(b"POST / HTTP/1.1\r\n\r\n", true).starts_with("HTTP/1.1 405 "));
        assert!(text(b"GET / HT", false).starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn a_client_over_the_network_gets_its_answer_and_an_endless_one_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                answer(listener.accept().unwrap().0, "hello", Duration::ZERO).unwrap();
            }
        });
        let mut said = String::new();
        let mut client = TcpStream::connect(place).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.read_to_string(&mut said).unwrap();
        assert!(said.contains("Hello from hello"), "{said}");
        let mut endless = TcpStream::connect(place).unwrap();
        let chunk = [b'x'; 4096];
        while endless.write_all(&chunk).is_ok() {}
        server.join().unwrap();
    }
}
