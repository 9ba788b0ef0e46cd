//! Stands in for a kubelet: TLS with a client's certificate asked for, and an answer of the test's choice.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What the next requests get.
#[derive(Clone)]
pub(crate) enum Answer {
    /// 200 and this.
    Body(String),
    /// Nothing, for ever.
    Silence,
    /// The end of the connection.
    Close,
    /// More than anybody reads.
    Flood,
}

/// A kubelet until it is dropped.
pub(crate) struct Kubelet {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    answer: Mutex<Answer>,
    connections: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl Kubelet {
    pub(crate) fn start(root: &Path, answer: Answer) -> Self {
        Self::start_at(root, ([127, 0, 0, 1], 0).into(), answer)
    }

    /// With the certificates below `root`.
    pub(crate) fn start_at(root: &Path, address: SocketAddr, answer: Answer) -> Self {
        let config = config(&root.join("run/podium/pki"));
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            connections: Mutex::new(Vec::new()),
            is_over: AtomicBool::new(false),
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &config, &shared)
        });
        Kubelet { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            // One that is closed already need not be.
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

fn config(pki: &Path) -> Arc<ServerConfig> {
    let read = |name: &str| std::fs::read(pki.join(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(CertificateDer::from_pem_slice(&read("kubelet-client-ca.crt")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone());
    let certificate = CertificateDer::from_pem_slice(&read("kubelet.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("kubelet.key")).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let (config, shared) = (config.clone(), shared.clone());
        std::thread::spawn(move || {
            let connection = ServerConnection::new(config).unwrap();
            // A client that breaks off, or that this kubelet's end closes, is no fault of the test.
            drop(talk(StreamOwned::new(connection, stream), &shared));
        });
    }
}

fn talk(stream: StreamOwned<ServerConnection, TcpStream>, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        assert!(line.is_empty() || line.starts_with("GET /pods HTTP/1.1"), "{line}");
        while line.len() > 2 {
            line.clear();
            reader.read_line(&mut line)?;
        }
        if line.is_empty() {
            return Ok(());
        }
        let answer = shared.answer.lock().unwrap().clone();
        let stream = reader.get_mut();
        match answer {
            Answer::Body(body) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            }
            Answer::Silence => loop {
                std::thread::park();
            },
            Answer::Close => return stream.sock.shutdown(Shutdown::Both),
            Answer::Flood => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40)?;
                loop {
                    stream.write_all(&[b' '; 16384])?;
                }
            }
        }
        stream.flush()?;
    }
}
