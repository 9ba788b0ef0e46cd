//! `apid podlist`: the manifests as a PodList over http, for a kubelet that takes its pods from there.
//!
//! It listens on loopback only and answers nobody without the token, which is of this boot and stands in the kubelet's
//! config. The manifest directory stays the source: what PID 1 wrote there is in the next answer, and when it removes
//! all at a shutdown the list is empty, which ends the pods. A directory that cannot be read is an error and never an
//! empty list. A kubelet refuses a whole list for one bad pod: files of others are left out, and which of ours it
//! refuses is found by trial, with its log as the judge (`trial`).

mod list;
mod trial;

use crate::files;
use crate::klog::{self, News};
use crate::places::Places;
use crate::say;
use crate::tail::{Line, Tail};
use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use list::Collection;
use podium_init::paths;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// The kubelet has one connection; the others are for who has lost its way.
const MOST_CLIENTS: usize = 16;
/// A request's head comes at once. The kubelet asks each second on a connection that it keeps; who does not is closed.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The kubelet's is three lines.
const HEAD_MAX: usize = 16 << 10;
/// As much as there may be manifests of ours in a list, refused and taken.
const MEMORY_MAX: u64 = 32 << 20;
/// The token and a line feed.
const TOKEN_MAX: u64 = 256;

/// What is kept between requests.
#[derive(Debug)]
struct Server {
    directory: PathBuf,
    token: String,
    collection: RefCell<Collection>,
    log: RefCell<Tail>,
    /// Where what was found refused, and what was taken before, outlive this program.
    memory: PathBuf,
}

/// Serves until it cannot.
pub(crate) async fn run(places: &Places, port: Option<u16>) -> Result<()> {
    let token = files::read(&places.at(paths::POD_LIST_TOKEN), TOKEN_MAX)?;
    let token = String::from_utf8(token)?.trim().to_owned();
    ensure!(!token.is_empty(), "{} is empty", paths::POD_LIST_TOKEN);
    let memory = places.at(paths::POD_LIST_REFUSED);
    let known = files::read(&memory, MEMORY_MAX).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let server = Rc::new(Server {
        directory: places.at(paths::MANIFESTS),
        token,
        collection: RefCell::new(Collection::knowing(known.unwrap_or_default())),
        log: RefCell::new(Tail::new(places.kubelet_log())),
        memory,
    });
    // What was said before is not of the lists to come.
    server.has_refused();
    let address = (Ipv4Addr::LOCALHOST, port.unwrap_or(paths::POD_LIST_PORT));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listen at port {}", address.1))?;
    say::line(&format!("listening at {}", listener.local_addr()?));
    say::ready();
    LocalSet::new().run_until(accept(listener, server)).await
}

async fn accept(listener: TcpListener, server: Rc<Server>) -> Result<()> {
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let place = clients.clone().acquire_owned().await?;
        let (stream, _) = listener.accept().await.context("accept")?;
        let server = server.clone();
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| {
                let answer = server.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(REQUEST_LIMIT).max_buf_size(HEAD_MAX);
            // A client that breaks off is its own matter.
            drop(http.serve_connection(TokioIo::new(stream), answer).await);
            drop(place);
        });
    }
}

impl Server {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !is_bearer(request.headers(), &self.token) {
            let mut refused = plain(StatusCode::UNAUTHORIZED, "only the kubelet is answered");
            refused.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
            return refused;
        }
        if request.uri().path() != "/pods" {
            return plain(StatusCode::NOT_FOUND, "there is /pods");
        }
        if request.method() != Method::GET {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "there is GET");
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
            return refused;
        }
        let mut collection = self.collection.borrow_mut();
        let known = collection.memory();
        let looked = collection.look(&self.directory, self.has_refused());
        if collection.memory() != known {
            self.remember(&collection);
        }
        match looked {
            Err(error) => {
                say::line(&format!("{error:#}; the kubelet keeps the list that it has"));
                plain(StatusCode::SERVICE_UNAVAILABLE, "the manifests cannot be read")
            }
            Ok(news) => {
                news.iter().for_each(|line| say::loud(line));
                list(&collection, request.headers())
            }
        }
    }
}

impl Server {
    /// Whether the kubelet has said since the last call that it refuses a list.
    fn has_refused(&self) -> bool {
        let mut refused = false;
        self.log.borrow_mut().look(|line| {
            if let Line::Text(text) = line {
                refused |= matches!(klog::read(text), Some(News::List { .. }));
            }
        });
        refused
    }

    fn remember(&self, collection: &Collection) {
        let stored = serde_json::to_vec(&collection.memory()).context("as JSON");
        if let Err(error) = stored.and_then(|json| files::store(&self.memory, &json)) {
            say::line(&format!(
                "{error:#}; what the kubelet refuses is tried again when this program is restarted"
            ));
        }
    }
}

fn list(collection: &Collection, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let has = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = has.flat_map(|value| value.split(',')).map(str::trim);
    let is_known = tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == collection.tag());
    let (status, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, Bytes::new()),
        false => (StatusCode::OK, collection.body()),
    };
    let answer = Response::builder().status(status).header(ETAG, collection.tag());
    let answer = answer.header(CONTENT_TYPE, "application/json").body(Full::new(body));
    answer.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "no answer"))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}

/// Whether the token is shown; how long that takes tells nothing of where it differs.
fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    shown.is_some_and(|shown| {
        let differs = shown.iter().zip(token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        shown.len() == token.len() && differs == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_opens() {
        let bearer = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            is_bearer(&headers, "5ec1e7")
        };
        assert!(bearer("Bearer 5ec1e7"));
        for wrong in ["Bearer 5ec1e8", "Bearer 5ec1e", "Bearer 5ec1e77", "Bearer ", "Basic 5ec1e7", "5ec1e7"]
        {
            assert!(!bearer(wrong), "{wrong}");
        }
        assert!(!is_bearer(&HeaderMap::new(), "5ec1e7"));
    }
}
