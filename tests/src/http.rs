//! Asks a machine's pods over HTTP as any client on the host would.

use anyhow::{Context, Result, bail};
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;

/// One request's whole time; a forwarded port accepts before anything listens in the guest, so it must be short.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The body of `GET http://127.0.0.1:<port><path>`.
///
/// # Errors
/// When nothing answers within ten seconds, or with another status than 200.
pub fn get(port: u16, path: &str) -> Result<String> {
    let agent: Agent = Agent::config_builder().timeout_global(Some(REQUEST_LIMIT)).build().into();
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut answer = agent.get(&url).header("Connection", "close").call().with_context(|| url.clone())?;
    answer.body_mut().read_to_string().with_context(|| url.clone())
}

/// Like [`get`], again and again until it answers or `limit` has passed.
///
/// # Errors
/// The last request's, after `limit`.
pub fn get_within(port: u16, path: &str, limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    loop {
        match get(port, path) {
            Ok(body) => return Ok(body),
            Err(error) if Instant::now() > deadline => {
                bail!("no answer within {} s: {error:#}", limit.as_secs());
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
