//! Changing members. The servers decide each change among themselves; what follows of it, as the
//! copying of what a server comes to own, they do by themselves.

use crate::changes::make;
use crate::client::Client;
use crate::error::Result;
use crate::system;
use annulet_protocol::codec;
use annulet_protocol::epoch::number_of;
use annulet_protocol::ids::NodeId;
use annulet_protocol::members::{
    LeaveMember, MemberCommand, MemberReply, MemberRequest, SetMember,
};
use annulet_protocol::view::Member;
use bytes::Bytes;

/// What is to change of a member. The default leaves everything as it is.
///
/// ```
/// let changes = annulet::MemberChanges {
///     capacity: Some(2),
///     ..Default::default()
/// };
/// assert_eq!(changes.zone, None); // It stays as it is.
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberChanges {
    /// Its share of the data, relative to the others', at least 1.
    pub capacity: Option<u32>,
    /// What fails together with it.
    pub zone: Option<String>,
    /// Host and port that clients and servers connect to.
    pub address: Option<String>,
}

impl Client {
    /// Changes a member, and gives it as it is now. Where its share of the data changes, the
    /// servers move what must be moved, a few partitions at a time, while everything goes on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::MemberChanges;
    ///
    /// let member = client.view().members[0].clone();
    /// let changes = MemberChanges {
    ///     capacity: Some(member.capacity),
    ///     ..MemberChanges::default()
    /// };
    /// // It has that capacity already, so nothing moves.
    /// let now = client.set_member(member.id, &changes).await?;
    /// assert_eq!(now, Some(member));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if there is no such member, `InvalidInput` if it cannot be so, `Unauthorized`
    /// without the role `admin`, `Unavailable` if too few servers can be reached to decide it,
    /// `Timeout` if none does within 12 s.
    pub async fn set_member(&self, id: NodeId, changes: &MemberChanges) -> Result<Option<Member>> {
        let set = SetMember {
            id,
            address: changes.address.clone(),
            capacity: changes.capacity,
            zone: changes.zone.clone(),
        };
        self.change_member(MemberCommand::Set(set)).await
    }

    /// Lets a member leave: the others copy what it owns, then it is no member any more. It must
    /// run until then; one that is lost for good leaves in the same way, and the others copy from
    /// those who are left, where these are a majority: see [`Client::accept_loss`].
    ///
    /// ```no_run
    /// # async fn example(client: annulet::Client) -> annulet::Result<()> {
    /// let leaves = client.view().members[0].id;
    /// client.remove_member(leaves).await?;
    /// // It owns less and less, until it is no member any more.
    /// while client.newest_view().await?.member(leaves).is_some() {
    ///     let progress = client.progress().await?;
    ///     println!("{:.0} copies are left", progress.replicas_left);
    ///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::set_member`]; `InvalidInput` if nobody would be left.
    pub async fn remove_member(&self, id: NodeId) -> Result<Option<Member>> {
        let leave = MemberCommand::Leave(LeaveMember { id });
        self.change_member(leave).await
    }

    /// Gives up a member that is **lost for good**, with all that only it had: it leaves as by
    /// [`Client::remove_member`], and where those that are left are no majority of the owners of
    /// something, what they have is taken for all that there is. [`Client::plan_loss`] says where
    /// that is. Without it such partitions wait for the member. A member that comes back after
    /// all hands over what it still has, if it comes before the others are done without it.
    ///
    /// ```no_run
    /// # async fn example(client: annulet::Client) -> annulet::Result<()> {
    /// let gone = client.view().members[0].id;
    /// for loss in client.plan_loss(&[gone]).await? {
    ///     println!("{}: {} partitions", loss.bucket, loss.partitions.len());
    /// }
    /// client.accept_loss(gone).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::remove_member`]; `Conflict` if the member answers.
    pub async fn accept_loss(&self, id: NodeId) -> Result<Option<Member>> {
        let lost = MemberCommand::AcceptLoss(LeaveMember { id });
        self.change_member(lost).await
    }

    async fn change_member(&self, command: MemberCommand) -> Result<Option<Member>> {
        let shared = self.shared();
        shared.check_open()?;
        let request = MemberRequest {
            cluster: shared.cluster,
            change: system::change()?,
            command,
        };
        let body = Bytes::from(codec::encode(&request));
        let reply = make(shared, "/v1/members", body, codec::decode_member_reply).await?;
        let MemberReply { epoch, member, .. } = reply;
        if let Err(why) = shared.refresh(epoch).await {
            // It is fetched when it is needed.
            tracing::debug!(%why, epoch = number_of(epoch), "the view of a change that was made");
        }
        Ok(member)
    }
}
