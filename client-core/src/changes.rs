//! Changes that the servers decide among themselves: any one of them takes it.

use crate::core::SendFailure;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::net::connection::Connection;
use crate::shared::Shared;
use annulet_protocol::codec::DecodeError;
use annulet_protocol::ids::NodeId;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Longest time that a change takes.
const CHANGE_MAX: Duration = Duration::from_secs(12);
/// Longest time that one server has for it: more than it tries by itself.
const SERVER_MAX: Duration = Duration::from_secs(6);
/// Reads a reply.
type Decode<R> = fn(&[u8]) -> std::result::Result<R, DecodeError>;

/// How long something that servers decide is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In all.
    pub(crate) whole: Duration,
    /// For one server.
    pub(crate) server: Duration,
}

/// For a change.
const CHANGE: Patience = Patience {
    whole: CHANGE_MAX,
    server: SERVER_MAX,
};
/// Longest time to connect to one.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Asks one server after the other. They know a change by its name: asked of another server again,
/// it is not made twice.
///
/// # Errors
/// What the last server said, or the first that will not do it; with its outcome.
pub(crate) async fn make<R>(
    shared: &Arc<Shared>,
    path: &'static str,
    body: Bytes,
    decode: Decode<R>,
) -> Result<R> {
    make_within(shared, path, body, decode, CHANGE).await
}

/// The same, with another patience.
///
/// # Errors
/// As [`make`].
pub(crate) async fn make_within<R>(
    shared: &Arc<Shared>,
    path: &'static str,
    body: Bytes,
    decode: Decode<R>,
    patience: Patience,
) -> Result<R> {
    let view = shared.view();
    let mut addresses: Vec<_> = view.members.iter().map(|m| m.address.clone()).collect();
    let turn = shared.jitter(NodeId(view.epoch)) % addresses.len().max(1) as u64;
    addresses.rotate_left(turn as usize);
    let open = |address: String| {
        let tls = Arc::clone(&shared.tls);
        async move { Connection::open(&address, tls, CONNECT_MAX).await }
    };
    let post = |connection| post(connection, path, body.clone(), (decode, patience.server));
    make_at(addresses, patience.whole, open, post).await
}

/// What is known of a change that no server has confirmed.
struct Course {
    outcome: Outcome,
    last: Error,
}

impl Course {
    fn new() -> Self {
        Self {
            outcome: Outcome::NotApplied,
            last: Error::new(ErrorKind::Unavailable, "no server is known"),
        }
    }

    /// Takes why a server has not confirmed it. `before`: what was known before the server was
    /// asked, which still holds if it has not worked on the request.
    ///
    /// # Errors
    /// If no other server is to be asked.
    fn failed(&mut self, before: Outcome, address: &str, failure: SendFailure) -> Result<()> {
        match failure {
            SendFailure::NotSent(why) => {
                self.outcome = before;
                self.last = Error::new(ErrorKind::Unavailable, why);
            }
            SendFailure::Unanswered(why) => {
                self.outcome = Outcome::Unknown;
                self.last = Error::new(ErrorKind::Unavailable, format!("{address}: {why}"));
            }
            SendFailure::Rejected(error, _) => match error.kind() {
                ErrorKind::Overloaded => {
                    self.outcome = before;
                    self.last = error;
                }
                ErrorKind::Unavailable | ErrorKind::Internal => {
                    self.outcome = Outcome::Unknown;
                    self.last = error;
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }
}

/// Asks those at these addresses within `limit`.
async fn make_at<C, R, Opening, Posting>(
    addresses: Vec<String>,
    limit: Duration,
    open: impl Fn(String) -> Opening,
    post: impl Fn(C) -> Posting,
) -> Result<R>
where
    Opening: Future<Output = std::result::Result<C, SendFailure>>,
    Posting: Future<Output = std::result::Result<R, SendFailure>>,
{
    let mut course = Course::new();
    let asking = async {
        for address in addresses {
            let before = course.outcome;
            let reply = match open(address.clone()).await {
                Ok(connection) => {
                    // Whoever stops waiting from now on does not know.
                    course.outcome = Outcome::Unknown;
                    post(connection).await
                }
                Err(failure) => Err(failure),
            };
            match reply {
                Ok(reply) => return Ok(reply),
                Err(failure) => course.failed(before, &address, failure)?,
            }
        }
        Err(course.last.clone())
    };
    let made = tokio::time::timeout(limit, asking).await;
    made.unwrap_or_else(|_| {
        let why = format!("no server made the change within {} s", limit.as_secs());
        Err(Error::new(ErrorKind::Timeout, why))
    })
    .map_err(|error| match error.is_retryable() {
        true => error.with_outcome(course.outcome),
        false => error,
    })
}

async fn post<R>(
    mut connection: Connection,
    path: &'static str,
    body: Bytes,
    (decode, limit): (Decode<R>, Duration),
) -> std::result::Result<R, SendFailure> {
    let posted = connection.post(path, body);
    let body = tokio::time::timeout(limit, posted)
        .await
        .unwrap_or_else(|_| {
            let why = format!("no answer within {} s", limit.as_secs());
            Err(SendFailure::Unanswered(why))
        })?;
    decode(&body).map_err(|error| SendFailure::Unanswered(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::sync::Mutex;

    const LIMIT: Duration = Duration::from_millis(20);

    /// How servers fail that are asked one after the other; `None`: one never answers.
    async fn outcome(mut failures: Vec<Option<SendFailure>>) -> (ErrorKind, Option<Outcome>) {
        let addresses = failures.iter().map(|_| "server:1".into()).collect();
        failures.reverse();
        let failures = Mutex::new(failures);
        let open = |_| ready(Ok(()));
        let post = |()| {
            let failure = failures.lock().expect("no panic").pop().flatten();
            async {
                match failure {
                    Some(failure) => Err::<(), _>(failure),
                    None => pending().await,
                }
            }
        };
        let made = make_at(addresses, LIMIT, open, post).await;
        let error = made.expect_err("nobody makes it");
        (error.kind(), error.outcome())
    }

    #[tokio::test]
    async fn a_change_that_is_on_its_way_when_time_is_over_may_be_made() {
        let unknown = (ErrorKind::Timeout, Some(Outcome::Unknown));
        assert_eq!(outcome(vec![None]).await, unknown);
        let not_sent = || Some(SendFailure::NotSent("refused".into()));
        assert_eq!(outcome(vec![not_sent(), None]).await, unknown);
    }

    #[tokio::test]
    async fn a_change_is_not_made_that_no_server_has_worked_on() {
        let not_sent = || Some(SendFailure::NotSent("refused".into()));
        let busy = Error::new(ErrorKind::Overloaded, "too much to do");
        let busy = || Some(SendFailure::Rejected(busy.clone(), None));
        let not_applied = (ErrorKind::Unavailable, Some(Outcome::NotApplied));
        assert_eq!(outcome(vec![busy(), not_sent()]).await, not_applied);
        let unanswered = Some(SendFailure::Unanswered("no answer".into()));
        let unknown = (ErrorKind::Unavailable, Some(Outcome::Unknown));
        assert_eq!(outcome(vec![unanswered, not_sent()]).await, unknown);
    }

    #[tokio::test]
    async fn a_change_is_not_made_while_no_server_can_be_connected_to() {
        let open = |_| pending::<std::result::Result<(), SendFailure>>();
        let post = |()| ready(Err::<(), _>(SendFailure::NotSent("no".into())));
        let made = make_at(vec!["server:1".into()], LIMIT, open, post).await;
        let error = made.expect_err("nobody makes it");
        let outcome = (error.kind(), error.outcome());
        assert_eq!(outcome, (ErrorKind::Timeout, Some(Outcome::NotApplied)));
    }
}
