//! A connection to containerd, over which gRPC asks it by the CRI.

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use podium_wire::cri::runtime_service_client::RuntimeServiceClient;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::codegen::Service;

/// A list of a thousand containers has a MiB.
const MESSAGE_MAX: usize = 16 << 20;

/// As a client of gRPC wants it.
#[derive(Debug, Clone)]
pub(crate) struct Connection(SendRequest<Body>);

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub(crate) type Client = RuntimeServiceClient<Connection>;

/// Connects to the socket; sets no limit of time.
///
/// # Errors
/// Nobody listens there, or what listens does not speak http/2.
pub(crate) async fn connect(socket: &Path) -> Result<Client> {
    let stream = UnixStream::connect(socket).await.context("connect")?;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.context("http/2")?;
    // Its errors come back from the requests.
    tokio::spawn(async { drop(connection.await) });
    let origin = Uri::from_static("http://localhost");
    Ok(RuntimeServiceClient::with_origin(Connection(sender), origin).max_decoding_message_size(MESSAGE_MAX))
}
