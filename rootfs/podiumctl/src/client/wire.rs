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
    pub(super) stream: S,
    pub(super) heard: Heard,
}

/// What is read after a write has failed: the node's alert is some dozen bytes.
const LAST_WORDS: usize = 1024;

impl<S: AsyncRead + Unpin> Listened<S> {
    /// A write may fail before the alert that says why is read: it is there all the same.
    fn listen(&mut self, task: &mut Context<'_>) {
        let mut space = [0; LAST_WORDS];
        if let Poll::Ready(Err(error)) =
            Pin::new(&mut self.stream).poll_read(task, &mut ReadBuf::new(&mut space))
        {
            self.heard.keep(&error);
        }
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
        let polled = Pin::new(&mut self.stream).poll_write(task, buf);
        if let Poll::Ready(Err(_)) = &polled {
            self.listen(task);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(task);
        if let Poll::Ready(Err(_)) = &polled {
            self.listen(task);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
