//! A connection that remembers why it broke.
//!
//! A node refuses a client's certificate after the handshake, when requests are under way already: those end with
//! "canceled" and the reason goes to a task that nobody asks. So the reason is kept where the request's error is made
//! into words.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The last TLS error of a connection, for whoever's request ended with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<rustls::Error>>>);

impl Heard {
    pub(super) fn take(&self) -> Option<rustls::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, error: &io::Error) {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }
}

/// A stream whose errors are heard.
#[derive(Debug)]
pub(super) struct Listened<S> {
    stream: S,
    heard: Heard,
    /// A write has failed with this; what the node said before is still to be read.
    failed: Option<io::Error>,
}

/// What is read after a write has failed: the node's alert is some dozen bytes.
const LAST_WORDS: usize = 1024;

impl<S: AsyncRead + Unpin> Listened<S> {
    pub(super) fn new(stream: S, heard: Heard) -> Self {
        Self { stream, heard, failed: None }
    }

    /// A node that refuses a certificate says why and closes: the next write fails, and the alert may not have been
    /// read yet. A broken connection is always readable, so this waits for no longer than the alert takes.
    fn after<T>(&mut self, written: Poll<io::Result<T>>, task: &mut Context<'_>) -> Poll<io::Result<T>> {
        let error = match written {
            Poll::Ready(Err(error)) => self.failed.take().unwrap_or(error),
            other => return other,
        };
        let mut space = [0; LAST_WORDS];
        match Pin::new(&mut self.stream).poll_read(task, &mut ReadBuf::new(&mut space)) {
            Poll::Pending => {
                self.failed = Some(error);
                return Poll::Pending;
            }
            Poll::Ready(Err(said)) => self.heard.keep(&said),
            Poll::Ready(Ok(())) => {}
        }
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(task, buf);
        if let Poll::Ready(Err(error)) = &polled {
            self.heard.keep(error);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, buf);
        self.after(written, task)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(task);
        self.after(flushed, task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
