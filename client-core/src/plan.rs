//! What would move if members were changed, how far it is with what moves, what would be lost with
//! members, and whether a server can be stopped.
//!
//! All of it is for people and their tools: it reads, and changes nothing.

mod progress;

use crate::client::{Client, MemberStatus};
use crate::core::SendFailure;
use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::status::StopReply;
use annulet_protocol::view::{MemberState, View};
use annulet_ring::forecast::{Forecast, ForecastError, RingChange};
use annulet_ring::loss::{BucketLoss, losses};
use http::StatusCode;
pub use progress::{MoveProgress, OwnerProgress, Progress};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Client {
    /// What would move after these changes of members, before anything does; without any, what is
    /// still to move now. It sets out from the newest view, and takes how much data that is from
    /// what the servers say they hold. Nothing is changed: see [`Client::set_member`] and
    /// [`Client::remove_member`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::{Newcomer, RingChange};
    ///
    /// let comes = RingChange::Join(Newcomer {
    ///     capacity: 1,
    ///     zone: "rack-4".into(),
    ///     region: client.view().members[0].region.clone(),
    /// });
    /// let plan = client.plan(&[comes]).await?;
    /// println!("{} of {} copies of partitions would move", plan.moving, plan.replicas);
    /// assert!(plan.moving > 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if such a cluster cannot be, `Closed` once the client was closed.
    pub async fn plan(&self, changes: &[RingChange]) -> Result<Forecast> {
        self.newest_view().await?;
        let stored = stored(&self.members().await);
        let view = self.view();
        let changes = changes.to_vec();
        // It takes some hundred milliseconds where there are tens of thousands of servers.
        let planning = tokio::task::spawn_blocking(move || Forecast::of(&view, &changes, &stored));
        match planning.await {
            Ok(Ok(forecast)) => Ok(forecast),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(Error::new(ErrorKind::Internal, error.to_string())),
        }
    }

    /// How far it is with all that moves, and how long it will take: asks every server.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let progress = client.progress().await?;
    /// if !progress.is_still() {
    ///     println!("{:.0} copies of partitions are left", progress.replicas_left);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed` once the client was closed.
    pub async fn progress(&self) -> Result<Progress> {
        self.newest_view().await?;
        let members = self.members().await;
        Ok(Progress::of(&self.view(), &members))
    }

    /// What would be lost of each bucket if these members were gone for good, besides those of
    /// which that is accepted already; buckets of which nothing would be are left out. Nothing is
    /// changed: see [`Client::accept_loss`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let one = client.view().members[0].id;
    /// for loss in client.plan_loss(&[one]).await? {
    ///     println!("{}: {} partitions would be lost", loss.bucket, loss.partitions.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed` once the client was closed.
    pub async fn plan_loss(&self, gone: &[NodeId]) -> Result<Vec<BucketLoss>> {
        let view = self.newest_view().await?;
        let is_lost = |id| {
            let member = view.member(id);
            member.is_some_and(|member| member.state == MemberState::Lost)
        };
        Ok(losses(&view, |id| gone.contains(&id) || is_lost(id)))
    }

    /// The newest view that any server has; the one that is known if there is no newer one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let view = client.newest_view().await?;
    /// assert!(view.ordinal() <= client.view().ordinal());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed` once the client was closed.
    pub async fn newest_view(&self) -> Result<Arc<View>> {
        self.buckets().await?;
        Ok(self.view())
    }

    /// Asks a server whether it can be stopped now: whether every quorum that it is part of can
    /// still be had without it, and it holds nothing that others should have by now. Stop one
    /// server at a time, and ask anew before the next.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let server = client.view().members[0].id;
    /// let reply = client.safe_to_stop(server).await?;
    /// for reason in &reply.reasons {
    ///     println!("{server} must go on ({}): {}", reason.kind, reason.message);
    /// }
    /// assert_eq!(reply.node, server);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Unavailable` if it does not answer, `InvalidInput` if there is no such member or it is too
    /// old to say.
    pub async fn safe_to_stop(&self, id: NodeId) -> Result<StopReply> {
        self.shared().check_open()?;
        let view = self.view();
        let member = view.member(id).ok_or_else(|| {
            let why = format!("there is no member {id}");
            Error::new(ErrorKind::InvalidInput, why)
        })?;
        let path = "/v1/safe-to-stop";
        let body = match self.ask_any(&member.address, path, STOP_ANSWER_MAX).await {
            Ok((StatusCode::OK | StatusCode::CONFLICT, body)) => body,
            Ok((StatusCode::NOT_FOUND, _)) => {
                let why = format!("{} is of a version that does not say it", member.address);
                return Err(Error::new(ErrorKind::InvalidInput, why));
            }
            Ok((status, body)) => accepted(crate::net::connection::accepted(status, body))?,
            Err(failure) => accepted(Err(failure))?,
        };
        let unreadable = |error: codec::DecodeError| {
            let why = format!("{}: its answer: {error}", member.address);
            Error::new(ErrorKind::Internal, why)
        };
        codec::decode_stop_reply(&body).map_err(unreadable)
    }
}

/// Longest time that a server has to say whether it can be stopped: it asks others, who have two
/// seconds.
const STOP_ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(5);

fn accepted<T>(answer: std::result::Result<T, SendFailure>) -> Result<T> {
    answer.map_err(|failure| match failure {
        SendFailure::Rejected(error, _) => error,
        SendFailure::NotSent(why) | SendFailure::Unanswered(why) => {
            Error::new(ErrorKind::Unavailable, why)
        }
    })
}

fn refused(error: &ForecastError) -> Error {
    Error::new(ErrorKind::InvalidInput, error.to_string())
}

/// Bytes that members say they hold.
fn stored(members: &[MemberStatus]) -> BTreeMap<NodeId, u64> {
    let told = members.iter().filter_map(|member| {
        let report = member.report.as_ref()?;
        Some((member.id, report.stored_bytes))
    });
    told.collect()
}
