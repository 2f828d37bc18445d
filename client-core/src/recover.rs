//! Beginning the chain of epochs anew after a majority of its keepers was lost for good.

use crate::changes::{Patience, make_within};
use crate::client::Client;
use crate::error::Result;
use crate::system;
use annulet_protocol::codec;
use annulet_protocol::recovery::{RecoverOutcome, RecoverReply, RecoverRequest};
use bytes::Bytes;
use std::time::Duration;

/// Members that do not answer are waited for, several times over.
const PATIENCE: Patience = Patience {
    whole: Duration::from_secs(60),
    server: Duration::from_secs(30),
};

impl Client {
    /// What [`Client::recover`] would find and do. Changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::RecoverOutcome;
    ///
    /// let found = client.plan_recovery().await?;
    /// // A majority answers, so there is nothing to recover from.
    /// assert!(matches!(found.outcome, RecoverOutcome::Refused(_)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::recover`].
    pub async fn plan_recovery(&self) -> Result<RecoverReply> {
        self.ask_to_recover(false).await
    }

    /// Lets the servers go on without a majority of the keepers, which is lost **for good**: what
    /// only the lost ones knew of buckets and members is given up, and each of them that comes
    /// back and knew something of that kind stops. It is refused while a majority of the keepers
    /// answers. The reply says what was found and what became of it.
    ///
    /// ```no_run
    /// # async fn example(client: annulet::Client) -> annulet::Result<()> {
    /// use annulet::RecoverOutcome;
    ///
    /// match client.recover().await?.outcome {
    ///     RecoverOutcome::Done(anew) => println!("it goes on with epoch {}", anew.epoch.number),
    ///     RecoverOutcome::Unsettled(_) => println!("it goes on, and some servers are still told"),
    ///     RecoverOutcome::Refused(why) | RecoverOutcome::Interrupted(why) => println!("{why}"),
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Unauthorized` without the role `admin`, `Unavailable` if no server can be reached,
    /// `Timeout` if none answers within 60 s.
    pub async fn recover(&self) -> Result<RecoverReply> {
        self.ask_to_recover(true).await
    }

    async fn ask_to_recover(&self, proceed: bool) -> Result<RecoverReply> {
        let shared = self.shared();
        shared.check_open()?;
        let request = RecoverRequest {
            cluster: shared.cluster,
            recovery: system::change()?,
            proceed,
        };
        let body = Bytes::from(codec::encode(&request));
        let decode = codec::decode_recover_reply;
        let reply = make_within(shared, "/v1/recover", body, decode, PATIENCE).await?;
        if let RecoverOutcome::Done(anew) = &reply.outcome
            && let Err(why) = shared.refresh(anew.epoch.ordinal()).await
        {
            // It is fetched when it is needed.
            tracing::debug!(%why, "the view of a chain that was begun anew");
        }
        Ok(reply)
    }
}
