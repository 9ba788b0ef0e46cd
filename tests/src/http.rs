//! Asks a machine's pods over HTTP as any client on the host would.

use anyhow::{Context, Result, bail, ensure};
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;

/// One request's whole time: what is asked may take the guest a minute, e.g. filling its disk, and a busy host's minutes.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);
/// While nobody answers yet: a forwarded port accepts before anything listens in the guest, so this must be short.
const TRY_LIMIT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);

/// The body of `GET http://127.0.0.1:<port><path>`.
///
/// # Errors
/// When nothing answers within five minutes, or with another status than 200: its body is in the error.
pub fn get(port: u16, path: &str) -> Result<String> {
    request(port, path, REQUEST_LIMIT)
}

/// Like [`get`], for what may take the guest longer than that.
///
/// # Errors
/// As [`get`], after `limit`.
pub fn get_for(port: u16, path: &str, limit: Duration) -> Result<String> {
    request(port, path, limit)
}

/// One try: like [`get`], but nobody is waited for longer than three seconds.
///
/// # Errors
/// As [`get`].
pub fn try_get(port: u16, path: &str) -> Result<String> {
    request(port, path, TRY_LIMIT)
}

/// Like [`try_get`], again and again until it answers or `limit` has passed.
///
/// # Errors
/// The last request's, after `limit`.
pub fn get_within(port: u16, path: &str, limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    loop {
        match try_get(port, path) {
            Ok(body) => return Ok(body),
            Err(error) if Instant::now() > deadline => {
                bail!("no answer within {} s: {error:#}", limit.as_secs());
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn request(port: u16, path: &str, limit: Duration) -> Result<String> {
    let config = Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false);
    let agent: Agent = config.build().into();
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut answer = agent.get(&url).header("Connection", "close").call().with_context(|| url.clone())?;
    let body = answer.body_mut().read_to_string().with_context(|| url.clone())?;
    ensure!(answer.status() == 200, "{url}: {}: {}", answer.status(), body.trim_end());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// A server that gives each of `answers` to one client.
    fn server(answers: &'static [&'static str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                client.write_all(answer.as_bytes()).unwrap();
            }
        });
        port
    }

    #[test]
    fn a_body_is_given_and_a_failures_body_is_in_the_error() {
        let port = server(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 500 Failed\r\nContent-Length: 3\r\n\r\nwhy",
        ]);
        assert_eq!(get(port, "/").unwrap(), "hi");
        assert!(get(port, "/").unwrap_err().to_string().contains("why"));
    }

    #[test]
    fn one_who_answers_late_is_waited_for() {
        let port = server(&[
            "HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        ]);
        assert_eq!(get_within(port, "/", Duration::from_secs(20)).unwrap(), "hi");
    }
}
