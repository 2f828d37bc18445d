//! The client itself.

use crate::bucket::Bucket;
use crate::config::Config;
use crate::core::SendFailure;
use crate::core::client::{Core, Home};
use crate::error::Result;
use crate::net::connection::{self, Connection};
use crate::net::{tls, views};
use crate::profile::Profile;
use crate::session::Session;
use crate::shared::{Parts, Shared};
use crate::statistics::Statistics;
use crate::system;
use annulet_protocol::codec;
use annulet_protocol::hints::HintsReport;
use annulet_protocol::ids::NodeId;
use annulet_protocol::status::StatusReport;
use annulet_protocol::view::View;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// Longest time that connecting takes.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest time that a server has to say how it is.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// Longest time that closing waits for messages under way, and how often it looks.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// Servers that are asked at a time how they are.
const PROBES_AT_ONCE: usize = 32;

/// A client of one cluster. Cheap to clone; all clones share one set of connections. Connect once
/// in a program and keep it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// let profiles = client.bucket("default");
/// // A client takes any number of calls at a time, and so does each of its clones.
/// let same = client.clone().bucket("default");
/// tokio::try_join!(profiles.put("client:1", "Ada"), same.put("client:2", "Grace"))?;
/// assert!(profiles.exists("client:1").await? && profiles.exists("client:2").await?);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// A server and how it is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// for member in client.members().await {
///     let stored = member.report.map_or(0, |report| report.stored_bytes);
///     println!("{} is {} and holds {stored} bytes", member.address, member.state);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// The id of its store.
    pub id: NodeId,
    /// Its `host:port`.
    pub address: String,
    /// `up`; `full`: it takes no new values since its disk is full; `starting`: it does not serve
    /// yet; `stopping`: it serves no more; or `down`.
    pub state: &'static str,
    /// Its share of the data, relative to the others'.
    pub capacity: u32,
    /// Its zone.
    pub zone: String,
    /// Its region.
    pub region: String,
    /// The part of its region's data that it holds, 0 to 1.
    pub share: f64,
    /// Why it is not up, or that it soon will be full.
    pub error: Option<String>,
    /// How much it holds, and how far it is with what it copies; `None`: it does not say, since it
    /// is not up or is of an older version.
    pub report: Option<StatusReport>,
}

/// What a server keeps for others that could not be reached.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// for member in client.hints().await {
///     match member.report {
///         Ok(report) => println!("{}: {} of {} bytes", member.id, report.bytes, report.bytes_max),
///         Err(why) => println!("{}: {why}", member.id),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemberHints {
    /// The id of the server's store.
    pub id: NodeId,
    /// Its `host:port`.
    pub address: String,
    /// What it keeps, or why it does not say.
    pub report: std::result::Result<HintsReport, String>,
}

impl Client {
    /// Connects to the cluster of a profile: fetches the view from the first of its servers that
    /// answers. Call it inside a tokio runtime; the client works on that one.
    ///
    /// ```
    /// #[tokio::main]
    /// async fn main() -> annulet::Result<()> {
    ///     # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    ///     let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    ///     let profiles = client.bucket("default");
    ///     profiles.put("connect:1", "Ada").await?;
    ///     client.close().await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the profile's files cannot be used, `Unauthorized` if the servers do not
    /// accept its certificate, `Unavailable` if none answers within 5 s.
    pub async fn connect(profile: Profile) -> Result<Self> {
        let config = Config::of(&profile);
        Self::connect_with(profile, config).await
    }

    /// [`Client::connect`] with settings, in place of what the profile says of them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// use annulet::{Client, Config, Level, Profile};
    ///
    /// let profile = Profile::find(None)?;
    /// let config = Config {
    ///     level: Some(Level::LocalQuorum),
    ///     ..Config::of(&profile)
    /// };
    /// let client = Client::connect_with(profile, config).await?;
    /// client.bucket("default").put("connect_with:1", "Ada").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_with(profile: Profile, config: Config) -> Result<Self> {
        let tls = tls::config(&profile)?;
        let clock = system::Clock::start();
        let cached = profile.view_cache.as_deref().and_then(views::load);
        let mut addresses = profile.seeds.clone();
        let seeds = addresses.len().max(1);
        addresses.rotate_left((system::seed()? % seeds as u64) as usize);
        if let Some(view) = &cached {
            addresses.extend(view.members.iter().map(|member| member.address.clone()));
        }
        let view = views::fetch(addresses, &tls, CONNECT_MAX, None, |_| true).await?;
        let incarnation = system::incarnation()?;
        let home = Home {
            zone: profile.zone.clone().unwrap_or_default(),
            region: profile.region.clone().unwrap_or_default(),
        };
        let mut core = Core::new(incarnation, Arc::new(view), home);
        core.check_one_in = config.check_one_in;
        let (seeds, view_cache) = (profile.seeds, profile.view_cache);
        let parts = Parts {
            config,
            clock,
            tls,
            core,
            seeds,
            view_cache,
            incarnation,
        };
        Ok(Self {
            shared: Shared::new(parts),
        })
    }

    #[cfg(test)]
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A bucket of the cluster, whose name has 1 to 64 bytes. Asks no server: a bucket that does
    /// not exist is found out by the first operation on it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::ErrorKind;
    ///
    /// let profiles = client.bucket("default");
    /// assert_eq!(profiles.name(), "default");
    ///
    /// let misspelt = client.bucket("defualt").get("user:1").await;
    /// assert_eq!(misspelt.map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    /// # Ok(()) }
    /// ```
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        Bucket::new(self.clone(), name.into())
    }

    /// A new session: whoever reads and writes in its buckets is never shown anything older than
    /// what they have written or seen.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::{Level, ReadOptions};
    ///
    /// let session = client.session();
    /// let profiles = session.bucket("default");
    /// profiles.put("session:1", "Ada").await?;
    /// // A single owner is asked, and more of them only if it has not got the write yet.
    /// let quick = ReadOptions { level: Some(Level::One), ..ReadOptions::default() };
    /// let seen = profiles.get_with("session:1", &quick).await?;
    /// assert_eq!(seen.map(|entry| entry.value), Some("Ada".into()));
    /// # Ok(()) }
    /// ```
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// A session that goes on from [`Session::to_bytes`] of another one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::{Level, ReadOptions};
    ///
    /// let session = client.session();
    /// session.bucket("default").put("session_from:1", "Ada").await?;
    /// let cookie = session.to_bytes().await?;
    ///
    /// // Any later, in any other process:
    /// let session = client.session_from(&cookie)?;
    /// let quick = ReadOptions { level: Some(Level::One), ..ReadOptions::default() };
    /// let seen = session.bucket("default").get_with("session_from:1", &quick).await?;
    /// assert_eq!(seen.map(|entry| entry.value), Some("Ada".into()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if it is none, or of another cluster.
    pub fn session_from(&self, bytes: &[u8]) -> Result<Session> {
        Session::from_bytes(self.clone(), bytes)
    }

    /// The view of the cluster that this client works with.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let view = client.view();
    /// assert!(view.bucket_named("default").is_some());
    /// println!("{} servers, values of up to {} bytes", view.members.len(), view.value_bytes_max);
    /// # Ok(()) }
    /// ```
    pub fn view(&self) -> Arc<View> {
        self.shared.view()
    }

    /// What this client has done so far.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// client.bucket("default").get("statistics:1").await?;
    /// let statistics = client.statistics();
    /// assert_eq!((statistics.reads, statistics.errors), (1, 0));
    /// # Ok(()) }
    /// ```
    pub fn statistics(&self) -> Statistics {
        let counts = self.shared.core().counts;
        self.shared.counters.read(counts)
    }

    /// Asks every server how it is, for people to look at: 32 servers at a time, each of which has
    /// two seconds. One that does not answer is `down`; the call itself does not fail. What
    /// they say is of an epoch that this client knows afterwards, so that a move that is over is
    /// not taken for one of which nobody says anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// for member in client.members().await {
    ///     match member.error {
    ///         None => assert_eq!(member.state, "up"),
    ///         Some(why) => println!("{} is {}: {why}", member.address, member.state),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn members(&self) -> Vec<MemberStatus> {
        let view = self.view();
        let shares = shares(&view);
        let each = view.members.iter().zip(shares).map(|(member, share)| {
            let member = member.clone();
            async move {
                let (probe, report) =
                    tokio::join!(self.probe(&member.address), self.report(&member.address));
                let others = report.as_ref().map(|report| report.node);
                let others = others.filter(|node| *node != member.id);
                let ((state, error), report) = match others {
                    // It has the address of the one whose place it takes.
                    Some(node) => {
                        let why = format!("server {node} answers at its address");
                        (("down", Some(why)), None)
                    }
                    None => (probe, report),
                };
                MemberStatus {
                    id: member.id,
                    address: member.address,
                    state,
                    capacity: member.capacity,
                    zone: member.zone,
                    region: member.region,
                    share,
                    error,
                    report,
                }
            }
        });
        let members: Vec<_> = stream::iter(each).buffered(PROBES_AT_ONCE).collect().await;
        let reports = members.iter().filter_map(|member| member.report.as_ref());
        let newest = reports.map(|report| report.epoch).max().unwrap_or(0);
        if let Err(why) = self.shared.refresh(newest).await {
            tracing::debug!(%why, "no view of what a server acts under");
        }
        members
    }

    /// Ends the client: later calls fail with `Closed`, calls under way go on to their end. What
    /// was acknowledged at a quorum may still be on its way to the other owners, and so may
    /// repairs: this waits until they have it, or somebody keeps it for them, at most a second,
    /// then closes the connections.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::ErrorKind;
    ///
    /// let profiles = client.bucket("default");
    /// profiles.put("close:1", "Ada").await?;
    /// client.close().await;
    ///
    /// let late = profiles.get("close:1").await;
    /// assert_eq!(late.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    /// # Ok(()) }
    /// ```
    pub async fn close(&self) {
        self.shared.close();
        let drained = async {
            loop {
                self.shared.hurry();
                if !self.shared.pool.lanes().iter().any(|lane| lane.is_busy()) {
                    break;
                }
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::debug!("closed with messages under way");
        }
        for lane in self.shared.pool.lanes() {
            lane.close_if_idle();
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks every server what it keeps for others, for people to look at: 32 servers at a time,
    /// each of which has two seconds. The call itself does not fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// let reports = client.hints().await.into_iter().filter_map(|member| member.report.ok());
    /// let waiting: u64 = reports.flat_map(|report| report.waiting).map(|one| one.count).sum();
    /// println!("{waiting} records wait for owners that are away");
    /// # Ok(()) }
    /// ```
    pub async fn hints(&self) -> Vec<MemberHints> {
        let view = self.view();
        let each = view.members.iter().map(|member| {
            let member = member.clone();
            async move {
                let read = |body: Bytes| {
                    codec::decode_hints(&body).map_err(|error| format!("its answer: {error}"))
                };
                let report = match self.ask(&member.address, "/v1/hints").await {
                    Ok(body) => read(body),
                    Err(SendFailure::Rejected(error, _)) => Err(error.message().to_owned()),
                    Err(SendFailure::NotSent(why) | SendFailure::Unanswered(why)) => Err(why),
                };
                MemberHints {
                    id: member.id,
                    address: member.address,
                    report,
                }
            }
        });
        stream::iter(each).buffered(PROBES_AT_ONCE).collect().await
    }

    /// What a server says of itself, if it does.
    async fn report(&self, address: &str) -> Option<StatusReport> {
        let body = self.ask(address, "/v1/status").await.ok()?;
        codec::decode_status(&body).ok()
    }

    async fn probe(&self, address: &str) -> (&'static str, Option<String>) {
        let answer = self.ask_any(address, "/readyz", PROBE_MAX).await;
        let answer = answer.and_then(|(status, body)| match (status, body.as_ref()) {
            (StatusCode::SERVICE_UNAVAILABLE, NOT_YET) => {
                Ok(("starting", Some(String::from(STARTING))))
            }
            (StatusCode::SERVICE_UNAVAILABLE, NO_MORE) => {
                Ok(("stopping", Some(String::from(STOPPING))))
            }
            (StatusCode::OK, READY_FULL) => Ok(("full", Some(String::from(FULL)))),
            (StatusCode::OK, READY_FILLING) => Ok(("up", Some(String::from(FILLING)))),
            _ => connection::accepted(status, body).map(|_| ("up", None)),
        });
        match answer {
            Ok(state) => state,
            // It answers, but not as an owner.
            Err(SendFailure::Rejected(error, _)) => ("stopping", Some(error.message().to_owned())),
            Err(SendFailure::NotSent(why) | SendFailure::Unanswered(why)) => ("down", Some(why)),
        }
    }

    /// Asks one server, over a connection of its own.
    async fn ask(&self, address: &str, path: &str) -> std::result::Result<Bytes, SendFailure> {
        let (status, body) = self.ask_any(address, path, PROBE_MAX).await?;
        connection::accepted(status, body)
    }

    /// As `ask`, whatever the status, within a limit.
    pub(crate) async fn ask_any(
        &self,
        address: &str,
        path: &str,
        limit: Duration,
    ) -> std::result::Result<(StatusCode, Bytes), SendFailure> {
        let tls = Arc::clone(&self.shared.tls);
        let ask = async {
            let opened = Connection::open(address, tls, PROBE_MAX).await;
            let mut connection = opened.map_err(|failure| match failure {
                // What is refused before it is asked anything is not the answer of a server that
                // is stopping.
                SendFailure::Rejected(error, _) => SendFailure::NotSent(error.message().to_owned()),
                failure => failure,
            })?;
            connection.get_any(path).await
        };
        tokio::time::timeout(limit, ask).await.unwrap_or_else(|_| {
            let why = format!("no answer within {} ms", limit.as_millis());
            Err(SendFailure::Unanswered(why))
        })
    }
}

/// What `/readyz` says of a server, and of its disk.
const NOT_YET: &[u8] = b"starting\n";
const NO_MORE: &[u8] = b"stopping\n";
const READY_FULL: &[u8] = b"ready, disk full\n";
const READY_FILLING: &[u8] = b"ready, disk filling\n";
const STARTING: &str = "it starts, and asks the others what it missed";
const STOPPING: &str = "it stops";
const FULL: &str = "its disk is full: it takes deletes, but no new values";
const FILLING: &str = "its disk is filling up";

/// The part of its region's data that each member holds.
fn shares(view: &View) -> Vec<f64> {
    let mut held = vec![0u64; view.members.len()];
    let mut shares = vec![0.0; view.members.len()];
    for table in &view.table.regions {
        let mut all = 0u64;
        for partition in 0..view.table.partitions {
            for index in table.list(partition) {
                held[index] += 1;
                all += 1;
            }
        }
        for (index, member) in view.members.iter().enumerate() {
            if member.region == table.region {
                shares[index] = held[index] as f64 / all.max(1) as f64;
            }
        }
    }
    shares
}
