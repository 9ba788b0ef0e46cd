//! Answers that are streams of bytes or of files: logs, the kernel's log, files, lists, disk usage.
//!
//! Each is one connection to the node's helper, which is held back while the reader is slow and ends with it.

use super::facts::Facts;
use super::upstream::{Lines, Purpose, Refused, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podium_wire::common::Data;
use podium_wire::machine::list_request::Type;
use podium_wire::machine::{DiskUsageInfo, DiskUsageRequest, FileInfo, ListRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that wait for a slow reader: of logs 16 KiB each.
const WAITING_MAX: usize = 4;
/// Go's bits of a file's kind, which clients expect beside the permissions (io/fs: FileMode).
const GO_KINDS: [(u32, u32); 6] = [
    (0o040_000, 1 << 31),
    (0o120_000, 1 << 27),
    (0o060_000, 1 << 26),
    (0o010_000, 1 << 25),
    (0o140_000, 1 << 24),
    (0o020_000, 1 << 26 | 1 << 21),
];
/// And of setuid, setgid and sticky.
const GO_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

type Streamed<T> = ReceiverStream<Result<T, Status>>;

/// Bytes.
pub(super) async fn bytes(facts: &Facts, target: Target, request: &Value) -> Result<Streamed<Data>, Status> {
    stream(facts, target, request, |line| {
        let text = line.get("data").and_then(Value::as_str).unwrap_or_default();
        let bytes = STANDARD.decode(text).map_err(Refused::garbled)?;
        Ok(Data { metadata: None, bytes: bytes.into() })
    })
    .await
}

/// Files.
pub(super) async fn list(
    facts: &Facts,
    target: Target,
    request: ListRequest,
) -> Result<Streamed<FileInfo>, Status> {
    let types = request.types().map(|one| match one {
        Type::Regular => "regular",
        Type::Directory => "directory",
        Type::Symlink => "symlink",
    });
    let types: Vec<&str> = types.collect();
    let depth = match (request.recurse, request.recursion_depth) {
        (false, _) => 1,
        (true, depth) => u32::try_from(depth).unwrap_or(0),
    };
    let root = if request.root.is_empty() { "/" } else { &request.root };
    let wanted = json!({"request": "list", "root": root, "depth": depth, "types": types});
    stream(facts, target, &wanted, |line| {
        let row = Row::deserialize(line).map_err(Refused::garbled)?;
        Ok(FileInfo {
            metadata: None,
            name: row.name,
            size: row.size,
            mode: go_mode(row.mode),
            modified: row.modified,
            is_dir: row.mode & 0o170_000 == 0o040_000,
            error: row.error.unwrap_or_default(),
            link: row.link.unwrap_or_default(),
            relative_name: row.relative_name,
            uid: row.uid,
            gid: row.gid,
        })
    })
    .await
}

/// What files and folders take.
pub(super) async fn disk_usage(
    facts: &Facts,
    target: Target,
    request: DiskUsageRequest,
) -> Result<Streamed<DiskUsageInfo>, Status> {
    let wanted = json!({
        "request": "disk usage", "paths": request.paths, "depth": u32::try_from(request.recursion_depth).unwrap_or(0),
        "all": request.all, "threshold": request.threshold,
    });
    stream(facts, target, &wanted, |line| {
        let row = Row::deserialize(line).map_err(Refused::garbled)?;
        Ok(DiskUsageInfo {
            metadata: None,
            name: row.name,
            size: row.size,
            error: row.error.unwrap_or_default(),
            relative_name: row.relative_name,
        })
    })
    .await
}

/// One file, as the helper tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    name: String,
    relative_name: String,
    size: i64,
    mode: u32,
    modified: i64,
    uid: u32,
    gid: u32,
    link: Option<String>,
    error: Option<String>,
}

/// What the first line says is the call's own result; what goes wrong later ends the stream.
async fn stream<T: Send + 'static>(
    facts: &Facts,
    target: Target,
    request: &Value,
    message: impl Fn(&Value) -> Result<T, Refused> + Send + 'static,
) -> Result<Streamed<T>, Status> {
    let mut lines = facts.upstream.open(target, Purpose::Stream, request).await?;
    // It says no more than `ok`.
    lines.next(None).await?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = relay(lines, message, &sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn relay<T>(
    mut lines: Lines,
    message: impl Fn(&Value) -> Result<T, Refused>,
    sender: &mpsc::Sender<Result<T, Status>>,
) {
    loop {
        let next = match lines.next(None).await {
            // A helper that dies says as little: half of a log must not look like all of it.
            Ok(None) => Err(Refused::unavailable("the node's helper ended in the middle")),
            Ok(Some(line)) if line.get("end") == Some(&Value::Bool(true)) => return,
            Ok(Some(line)) => message(&line),
            Err(refused) => Err(refused),
        };
        let is_last = next.is_err();
        if sender.send(next.map_err(Status::from)).await.is_err() || is_last {
            return;
        }
    }
}

fn go_mode(mode: u32) -> u32 {
    let kind = GO_KINDS.iter().find(|(unix, _)| mode & 0o170_000 == *unix).map_or(0, |(_, go)| *go);
    let bits: u32 = GO_BITS.iter().filter(|(unix, _)| mode & unix != 0).map(|(_, go)| *go).sum();
    kind | bits | mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_as_go_has_them() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o041_777, 0x8010_0000 | 0o777),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o020_620, 0x0420_0000 | 0o620),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }
}
