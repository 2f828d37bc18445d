//! Operations that one server asks of another.

use crate::http::State;
use crate::peers::link::Link;
use crate::tls::Tls;
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Operation, Request};
use std::time::Duration;
use tokio::time::timeout;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// Asks an owner, over the connection that is open or a new one, which is left open if all went
/// well. `answer_bytes_max`: longest answer.
///
/// # Errors
/// For people.
pub(super) async fn ask(
    (state, tls): (&State, &Tls),
    link: &mut Option<Link>,
    owner: NodeId,
    operations: Vec<Operation>,
    (time, answer_bytes_max): (Duration, usize),
) -> Result<Vec<Answer>, String> {
    if operations.is_empty() {
        return Ok(Vec::new());
    }
    let count = operations.len();
    let view = &state.view();
    let member = view.member(owner);
    let address = &member.ok_or("it is no member any more")?.address;
    let mut open = match link.take() {
        Some(open) => open,
        None => timeout(CONNECT, Link::open(view.cluster, tls, address))
            .await
            .map_err(|_| "it cannot be reached in time")??,
    };
    let request = Request {
        cluster: view.cluster,
        epoch: view.ordinal(),
        budget_ms: time.as_millis() as u32,
        operations,
    };
    let sent = open.post("/v1/ops", codec::encode(&request), answer_bytes_max);
    let body = timeout(time, sent).await;
    let body = body.map_err(|_| "it did not answer in time")??;
    let reply = codec::decode_reply(&body).map_err(|error| error.to_string())?;
    if reply.node != owner || reply.results.len() != count {
        return Err(format!("{} answers something else", reply.node));
    }
    *link = Some(open);
    Ok(reply.results)
}
