//! Stands in for containerd: a ready pod with a container that runs and one that has ended, and a pod that is not ready.
//! Field numbers are those of the CRI's public definition (`runtime.v1`).

use crate::numbers::{Message, framed};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::http::{HeaderValue, Request, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::path::Path;
use tokio::net::UnixListener;

/// containerd's ids.
pub(crate) const SANDBOX: &str = "5a0d000000000000000000000000000000000000000000000000000000000001";
pub(crate) const RUNNING: &str = "c0ffee0000000000000000000000000000000000000000000000000000000002";
pub(crate) const ENDED: &str = "dead000000000000000000000000000000000000000000000000000000000003";
const READY: u64 = 0;
const NOT_READY: u64 = 1;
const IS_RUNNING: u64 = 1;
const HAS_EXITED: u64 = 2;

/// Answers below that root until the test's runtime ends.
pub(crate) fn start(root: &Path) {
    let path = root.join("run/containerd/containerd.sock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = http2::Builder::new(TokioExecutor::new()).serve_connection(
                TokioIo::new(stream),
                service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) }),
            );
            tokio::spawn(served);
        }
    });
}

fn answer(
    request: &Request<Incoming>,
) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<>> {
    let method = request.uri().path().strip_prefix("/runtime.v1.RuntimeService/").unwrap_or_default();
    let message = match method {
        "ListPodSandbox" => Message::default()
            .message(1, &sandbox(SANDBOX, "web", READY))
            .message(1, &sandbox("gone", "before", NOT_READY)),
        "PodSandboxStatus" => {
            let info = r#"{"pid": 41, "image": "podium.local/pause:1", "runtimeSpec": {"linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}]}}}"#;
            Message::default().message(2, &Message::default().text(1, "info").text(2, info))
        }
        "ListContainers" => Message::default()
            .message(1, &container(RUNNING, "app", IS_RUNNING))
            .message(1, &container(ENDED, "init", HAS_EXITED)),
        "ContainerStatus" => {
            let image = Message::default().text(1, "podium.local/hello:1");
            Message::default()
                .message(1, &Message::default().message(8, &image))
                .message(2, &Message::default().text(1, "info").text(2, r#"{"pid": 42}"#))
        }
        "ListContainerStats" => {
            let value = |value: u64| Message::default().number(1, value);
            let stats = Message::default()
                .message(1, &Message::default().text(1, RUNNING))
                .message(2, &Message::default().message(2, &value(7_000_000_000)))
                .message(3, &Message::default().message(2, &value(9 << 20)));
            Message::default().message(1, &stats)
        }
        _ => Message::default(),
    };
    let mut trailers = HeaderMap::new();
    // 12: there is no such method.
    let known = !message.fields().is_empty();
    trailers.insert("grpc-status", HeaderValue::from_static(if known { "0" } else { "12" }));
    let body = Full::new(Bytes::from(framed(&message))).with_trailers(async { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn sandbox(id: &str, name: &str, state: u64) -> Message {
    let metadata = Message::default().text(1, name).text(2, "uid-1").text(3, "default");
    Message::default().text(1, id).message(2, &metadata).number(3, state)
}

fn container(id: &str, name: &str, state: u64) -> Message {
    let image = Message::default().text(1, "sha256:0123");
    Message::default()
        .text(1, id)
        .text(2, SANDBOX)
        .message(3, &Message::default().text(1, name))
        .message(4, &image)
        .number(6, state)
}
