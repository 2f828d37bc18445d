//! Where views come from: any server, and the file that remembers the last one. Who has a view
//! already asks for what follows it, and takes the whole if that cannot be had.

use super::connection::Connection;
use crate::core::SendFailure;
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::codec;
use annulet_protocol::epoch::{EpochRecord, Point};
use annulet_protocol::view::View;
use annulet_ring::chain;
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// One server is given so long before the next is asked as well.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// Most messages of what follows a view that are asked of one server.
const DELTAS_MAX: usize = 4;
/// Most servers that are asked for one view.
const ASKED_MAX: usize = 16;

/// The view of the first server that has one which `wanted` accepts. Servers are asked in order,
/// the next as soon as one fails or is slow.
///
/// # Errors
/// `Unauthorized` if a server says so; `Unavailable` if none answers within `limit`.
pub(crate) async fn fetch(
    addresses: Vec<String>,
    tls: &Arc<ClientConfig>,
    limit: Duration,
    known: Option<Arc<View>>,
    wanted: impl Fn(&View) -> bool,
) -> Result<View> {
    let mut left = addresses.into_iter().take(ASKED_MAX);
    let mut asked = JoinSet::new();
    let mut last = Error::new(ErrorKind::Unavailable, "no server is known");
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    loop {
        let more = left.next();
        let waits = more.is_some();
        if let Some(address) = more {
            let (tls, known) = (Arc::clone(tls), known.clone());
            asked.spawn(async move { ask(&address, tls, limit, known).await });
        } else if asked.is_empty() {
            return Err(last);
        }
        tokio::select! {
            answer = asked.join_next() => match answer {
                Some(Ok(Ok(view))) if wanted(&view) => return Ok(view),
                Some(Ok(Ok(view))) => {
                    let why = format!("a server is still at epoch {}", view.epoch);
                    last = Error::new(ErrorKind::Unavailable, why);
                }
                Some(Ok(Err(error))) if error.kind() == ErrorKind::Unauthorized => {
                    return Err(error);
                }
                Some(Ok(Err(error))) => last = error,
                Some(Err(panic)) => last = Error::new(ErrorKind::Internal, panic.to_string()),
                None => {}
            },
            () = tokio::time::sleep(NEXT_AFTER), if waits => {}
            () = &mut deadline => {
                let why = format!("no view within {} ms: {}", limit.as_millis(), last.message());
                return Err(Error::new(ErrorKind::Unavailable, why));
            }
        }
    }
}

async fn ask(
    address: &str,
    tls: Arc<ClientConfig>,
    limit: Duration,
    known: Option<Arc<View>>,
) -> Result<View> {
    let fail = |failure: SendFailure| match failure {
        SendFailure::NotSent(why) => Error::new(ErrorKind::Unavailable, why),
        SendFailure::Unanswered(why) => {
            Error::new(ErrorKind::Unavailable, format!("{address}: {why}"))
        }
        SendFailure::Rejected(error, _) => error,
    };
    let mut connection = Connection::open(address, tls, limit).await.map_err(fail)?;
    let known = known.filter(|view| !view.tip.keepers.is_empty());
    if let Some(known) = known
        && let Some(view) = follow(&mut connection, &known).await
    {
        return Ok(view);
    }
    let body = connection.get("/v1/view").await.map_err(fail)?;
    codec::decode_view(&body)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the view of {address}: {e}")))
}

/// Goes on from a view by what follows it. `None`: that cannot be had from this server, or is too
/// much.
async fn follow(connection: &mut Connection, known: &View) -> Option<View> {
    let mut view = known.clone();
    for _ in 0..DELTAS_MAX {
        let Point {
            generation,
            number,
            hash,
        } = view.point();
        let path = format!("/v1/chain?after={number}&hash={hash}&generation={generation}");
        let body = connection.get(&path).await.ok()?;
        let deltas = codec::decode_deltas(&body).ok()?;
        if deltas.fork || deltas.cluster != view.cluster {
            return None;
        }
        for bytes in &deltas.records {
            let record = EpochRecord::decode(bytes).ok()?;
            view = chain::apply(&view, &record).ok()?;
        }
        if view.ordinal() >= deltas.newest.ordinal() {
            return Some(view);
        }
        if deltas.records.is_empty() {
            // Its chain begins after this view: what is between is not there.
            return None;
        }
    }
    None
}

/// The view that an earlier run left. What cannot be read is as good as nothing.
pub(crate) fn load(path: &Path) -> Option<View> {
    let bytes = std::fs::read(path).ok()?;
    codec::decode_view(&bytes)
        .inspect_err(|why| tracing::debug!(%why, "view cache"))
        .ok()
}

/// Leaves the view for the next run. It is only a help, so failing is not an error.
pub(crate) fn save(path: &Path, view: &View) {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let written =
        std::fs::write(&fresh, codec::encode(view)).and_then(|()| std::fs::rename(&fresh, path));
    if let Err(why) = written {
        tracing::debug!(%why, path = %path.display(), "view cache not written");
    }
}
