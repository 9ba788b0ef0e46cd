//! One question and its answer, within its limit.

use crate::cri;
use crate::places::Places;
use anyhow::{Context, Result, bail, ensure};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use podium_init::services::{Health, Probe};
use podium_wire::cri::VersionRequest;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// A limit that is noticed so late says nothing of who was asked: this process did not run either.
const LATE: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Healthy,
    /// What was wrong.
    Failed(String),
    /// Nothing can be said.
    Void,
}

/// Asks once.
pub(super) async fn ask(health: &Health, places: &Places) -> Answer {
    let begun = Instant::now();
    let answer = timeout(health.timeout, async {
        match &health.probe {
            Probe::Http(url) => http(url).await,
            Probe::Cri(socket) => version(socket, places).await,
            Probe::Exec(argv) => exec(argv).await,
        }
    });
    match answer.await {
        Ok(Ok(())) => Answer::Healthy,
        Ok(Err(error)) => Answer::Failed(format!("{error:#}")),
        Err(_) if begun.elapsed() > health.timeout + LATE => Answer::Void,
        Err(_) => Answer::Failed(format!("no answer within {:?}", health.timeout)),
    }
}

async fn http(url: &str) -> Result<()> {
    let url: Uri = url.parse().context("URL")?;
    let address = url.authority().context("URL without an address")?.as_str();
    let stream = TcpStream::connect(address).await.context("connect")?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("HTTP")?;
    // Its errors come back from the request; it ends with the sender.
    tokio::spawn(async { drop(connection.await) });
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await.context("ask")?.status();
    ensure!(status.is_success(), "answers {status}");
    Ok(())
}

async fn version(socket: &str, places: &Places) -> Result<()> {
    let mut client = cri::connect(&places.at(socket)).await?;
    match client.version(VersionRequest::default()).await {
        Ok(_) => Ok(()),
        // A containerd before 1.6 has an earlier version of this interface, and is alive.
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(()),
        Err(status) => bail!("{:?}: {}", status.code(), status.message()),
    }
}

async fn exec(argv: &[String]) -> Result<()> {
    let (program, args) = argv.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    async fn asked(probe: Probe) -> Answer {
        let limit = Duration::from_secs(20);
        ask(&Health { probe, interval: limit, timeout: limit, failures: 3 }, &Places::below(None)).await
    }

    /// Asks a server that says this to whoever asks for `/healthz`.
    async fn http_says(answer: &'static str) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/healthz", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let answer = asked(Probe::Http(url)).await;
        server.await.unwrap();
        answer
    }

    fn why(answer: Answer) -> String {
        match answer {
            Answer::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_url_is_healthy_by_its_status() {
        assert_eq!(http_says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await, Answer::Healthy);
        let failed = http_says("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(why(failed), "answers 500 Internal Server Error");
        assert!(why(http_says("").await).starts_with("ask: "));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(why(asked(Probe::Http(format!("http://{closed}/"))).await).starts_with("connect: "));
        assert!(why(asked(Probe::Http("/healthz".into())).await).contains("URL"));
    }

    #[tokio::test]
    async fn a_program_is_healthy_by_its_code() {
        let argv = |words: &[&str]| Probe::Exec(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(asked(argv(&["true"])).await, Answer::Healthy);
        assert!(why(asked(argv(&["false"])).await).contains("exit status: 1"));
        assert!(why(asked(argv(&["/nonexistent"])).await).starts_with("run /nonexistent: "));
        assert!(why(asked(argv(&[])).await).contains("no program"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_accepts_and_says_nothing_is_not_healthy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("containerd.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let answer = asked(Probe::Cri(path.display().to_string())).await;
        assert_eq!(why(answer), "no answer within 20s");
        std::fs::remove_file(&path).unwrap();
        assert!(why(asked(Probe::Cri(path.display().to_string())).await).starts_with("connect: "));
    }
}
