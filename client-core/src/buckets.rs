//! Making, changing and deleting buckets. The servers decide each change among themselves; any one
//! of them takes it.

use crate::changes::make;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Ttl;
use crate::system;
use annulet_protocol::bucket::{Bucket as BucketPolicy, Durability, Mode};
use annulet_protocol::codec;
use annulet_protocol::epoch::{
    BucketCommand, BucketReply, BucketRequest, DeleteBucket, SetBucket, number_of,
};
use annulet_protocol::level::Level;
use annulet_protocol::siblings::merges::Merge;
use bytes::Bytes;
use std::time::Duration;

/// The policy of a new bucket. All but levels and time to live never changes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let name = format!("example-options-{}", std::process::id());
/// use annulet::{BucketOptions, Merge, Mode, Set};
/// use std::time::Duration;
///
/// let options = BucketOptions {
///     ttl: Some(Duration::from_secs(30 * 86_400)),
///     merge: Some(Merge::Union),
///     ..BucketOptions::new(Mode::Siblings)
/// };
/// client.create_bucket(&name, &options).await?;
///
/// // Both stay: readers see one set of both.
/// let carts = client.bucket(&name);
/// for thing in ["apples", "pears"] {
///     let cart = Set([thing.into()].into());
///     carts.put("user:1", cart.encode()?).await?;
/// }
/// if let Some(cart) = carts.get("user:1").await? {
///     assert_eq!(Set::decode(&cart.value)?.0.len(), 2);
/// }
/// # client.delete_bucket(&name).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOptions {
    /// How concurrent writes are settled.
    pub mode: Mode,
    /// Owners of each key in each region, 1 to 7, at most the cluster's list length; `None`: 3, or
    /// that length if it is less.
    pub replicas: Option<u8>,
    /// When a write is acknowledged. Strong buckets take `group` only.
    pub durability: Durability,
    /// Level of reads that name none.
    pub read_level: Level,
    /// Level of writes that name none.
    pub write_level: Level,
    /// How long a value lives if its writer does not say; `None`: for good.
    pub ttl: Option<Duration>,
    /// What readers make of concurrent values by themselves, in a bucket of mode `siblings`.
    pub merge: Option<Merge>,
}

impl BucketOptions {
    /// A bucket of this mode with the defaults: 3 replicas, durability `group`, quorum reads and
    /// writes, values that live for good.
    ///
    /// ```
    /// use annulet::{BucketOptions, Durability, Level, Mode};
    ///
    /// let options = BucketOptions::new(Mode::Lww);
    /// assert_eq!(options.durability, Durability::Group);
    /// assert_eq!((options.read_level, options.write_level), (Level::Quorum, Level::Quorum));
    /// assert_eq!((options.replicas, options.ttl), (None, None));
    /// ```
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            replicas: None,
            durability: Durability::Group,
            read_level: Level::Quorum,
            write_level: Level::Quorum,
            ttl: None,
            merge: None,
        }
    }
}

/// What is to change of a bucket. The default leaves everything as it is.
///
/// ```
/// use annulet::{BucketChanges, Level, Ttl};
/// use std::time::Duration;
///
/// let changes = BucketChanges {
///     ttl: Ttl::After(Duration::from_secs(3_600)),
///     read_level: Some(Level::One),
///     ..BucketChanges::default()
/// };
/// assert_eq!(changes.write_level, None); // It stays as it is.
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketChanges {
    /// How long a value lives if its writer does not say: [`Ttl::After`] or [`Ttl::Never`].
    /// Values that are there keep the end that they have.
    pub ttl: Ttl,
    /// Level of reads that name none.
    pub read_level: Option<Level>,
    /// Level of writes that name none.
    pub write_level: Option<Level>,
}

impl Client {
    /// Makes a bucket, whose name has 1 to 64 bytes, and gives it as it was made. It can be used at
    /// once, from every client. A cluster has up to 10,000 buckets.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let name = format!("example-create-{}", std::process::id());
    /// use annulet::{BucketOptions, ErrorKind, Mode};
    ///
    /// let options = BucketOptions::new(Mode::Lww);
    /// let made = client.create_bucket(&name, &options).await?;
    /// assert_eq!(made.mode, Mode::Lww);
    /// client.bucket(&name).put("user:1", "Ada").await?;
    ///
    /// let again = client.create_bucket(&name, &options).await;
    /// assert_eq!(again.map_err(|error| error.kind()), Err(ErrorKind::Conflict));
    /// # client.delete_bucket(&name).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if there is a bucket of that name, `InvalidInput` if the policy cannot be,
    /// `Unauthorized` without the role `admin`, `Unavailable` if too few servers can be reached to
    /// decide it, `Timeout` if none does within 12 s: then [`Error::outcome`] says whether it may
    /// be made later all the same.
    pub async fn create_bucket(
        &self,
        name: impl Into<String>,
        options: &BucketOptions,
    ) -> Result<BucketPolicy> {
        let longest = self.view().table.list_length;
        let usual = match longest {
            0 => USUAL_REPLICAS,
            longest => USUAL_REPLICAS.min(longest),
        };
        let bucket = BucketPolicy {
            mode: options.mode,
            replicas: options.replicas.unwrap_or(usual),
            durability: options.durability,
            read_level: options.read_level,
            write_level: options.write_level,
            ttl_ms: options.ttl.map(milliseconds).transpose()?,
            merge: options.merge,
            ..BucketPolicy::new(0, &name.into())
        };
        let sound = bucket.validate();
        sound.map_err(|why| Error::new(ErrorKind::InvalidInput, why))?;
        self.change(BucketCommand::Create(bucket)).await
    }

    /// Changes a bucket's policy, and gives it as it is now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let name = format!("example-set-{}", std::process::id());
    /// use annulet::{BucketChanges, BucketOptions, Mode, Ttl};
    /// use std::time::Duration;
    ///
    /// client.create_bucket(&name, &BucketOptions::new(Mode::Lww)).await?;
    /// let changes = BucketChanges {
    ///     ttl: Ttl::After(Duration::from_secs(3_600)),
    ///     ..BucketChanges::default()
    /// };
    /// let now = client.set_bucket(&name, &changes).await?;
    /// assert_eq!(now.ttl_ms, Some(3_600_000));
    /// # client.delete_bucket(&name).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::create_bucket`]; `InvalidInput` if there is no such bucket, `Conflict`
    /// if it was deleted or made anew meanwhile.
    pub async fn set_bucket(&self, name: &str, changes: &BucketChanges) -> Result<BucketPolicy> {
        let ttl_ms = match changes.ttl {
            Ttl::Bucket => None,
            Ttl::Never => Some(0),
            Ttl::After(ttl) => Some(milliseconds(ttl)?),
            Ttl::Until(_) => {
                let why = "a bucket's time to live is a duration, not a moment";
                return Err(Error::new(ErrorKind::InvalidInput, why));
            }
        };
        let number = Some(self.number_of(name).await?);
        let set = SetBucket {
            name: name.into(),
            number,
            read_level: changes.read_level,
            write_level: changes.write_level,
            ttl_ms,
        };
        self.change(BucketCommand::Set(set)).await
    }

    /// Deletes a bucket with all that is in it, for good: a bucket made anew under its name is
    /// another one, and empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let name = format!("example-delete-{}", std::process::id());
    /// use annulet::{BucketOptions, ErrorKind, Mode};
    ///
    /// client.create_bucket(&name, &BucketOptions::new(Mode::Lww)).await?;
    /// client.delete_bucket(&name).await?;
    /// let gone = client.bucket(&name).get("user:1").await;
    /// assert_eq!(gone.map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::set_bucket`].
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        let number = Some(self.number_of(name).await?);
        let delete = DeleteBucket {
            name: name.into(),
            number,
        };
        self.change(BucketCommand::Delete(delete)).await?;
        Ok(())
    }

    /// The buckets of the cluster, in order of their making. Looks for the newest view first, and
    /// goes by the one that is known if no server has a newer one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let buckets = client.buckets().await?;
    /// for bucket in &buckets {
    ///     println!("{}: {}, {} replicas", bucket.name, bucket.mode, bucket.replicas);
    /// }
    /// assert!(buckets.iter().any(|bucket| bucket.name == "default"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Closed` once the client was closed.
    pub async fn buckets(&self) -> Result<Vec<BucketPolicy>> {
        let shared = self.shared();
        shared.check_open()?;
        let newer = self.view().ordinal() + 1;
        if let Err(why) = shared.refresh(newer).await {
            tracing::debug!(%why, "no newer view");
        }
        Ok(self.view().buckets.clone())
    }

    /// The number of a bucket, so that another one that is made under its name meanwhile is not
    /// changed in its place.
    async fn number_of(&self, name: &str) -> Result<u32> {
        let known = || self.view().bucket_named(name).map(|bucket| bucket.number);
        match known() {
            Some(number) => Ok(number),
            None => {
                self.shared().look_for_bucket(name).await;
                let why = || format!("the cluster has no bucket `{name}`");
                known().ok_or_else(|| Error::new(ErrorKind::InvalidInput, why()))
            }
        }
    }

    /// Has a change made by whichever server can, and sees to it that this client knows of it.
    async fn change(&self, command: BucketCommand) -> Result<BucketPolicy> {
        let shared = self.shared();
        shared.check_open()?;
        let request = BucketRequest {
            cluster: shared.cluster,
            change: system::change()?,
            command,
        };
        let body = Bytes::from(codec::encode(&request));
        let reply = make(shared, "/v1/buckets", body, codec::decode_bucket_reply).await?;
        let BucketReply { epoch, bucket, .. } = reply;
        if let Err(why) = shared.refresh(epoch).await {
            // It is fetched when it is needed.
            tracing::debug!(%why, epoch = number_of(epoch), "the view of a change that was made");
        }
        Ok(bucket)
    }
}

/// Replicas of buckets whose makers do not say.
const USUAL_REPLICAS: u8 = 3;

fn milliseconds(ttl: Duration) -> Result<u64> {
    match u64::try_from(ttl.as_millis()) {
        Ok(ms) if ms > 0 => Ok(ms),
        Ok(_) | Err(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            "a time to live must be at least 1 ms",
        )),
    }
}
