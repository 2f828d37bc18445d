//! Settings of a client.

use crate::profile::Profile;
use annulet_protocol::level::Level;
use annulet_protocol::limits::BUDGET_MS_MAX;
use std::time::Duration;

/// Settings of a client. The defaults suit nearly everyone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// use annulet::{Client, Config, Profile};
/// use std::time::Duration;
///
/// let profile = Profile::find(None)?;
/// let config = Config {
///     idle_after: Duration::from_secs(600),
///     ..Config::of(&profile)
/// };
/// let client = Client::connect_with(profile, config).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long an operation may take that names no timeout; 1 ms to 10 minutes.
    pub timeout: Duration,
    /// The level of operations that name none; `None`: the bucket's.
    pub level: Option<Level>,
    /// Connections kept open at most, at least 1. A client uses up to three to a server; what is
    /// over is closed, the least recently used first.
    pub connections_max: usize,
    /// How long a connection stays open without use, at least 1 s.
    pub idle_after: Duration,
    /// One read at level `one` in this many looks in the background whether the other owners
    /// agree, and repairs those that do not; 0: none does.
    pub check_one_in: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            level: None,
            connections_max: 512,
            idle_after: Duration::from_secs(60),
            check_one_in: 10,
        }
    }
}

impl Config {
    /// The defaults, with what the profile says.
    ///
    /// ```
    /// use annulet::{Config, Profile};
    /// use std::time::Duration;
    ///
    /// let text = "seeds = ['host-1:7400']\nca = 'ca.pem'\ncert = 'a.pem'\nkey = 'a.key'";
    /// let profile = Profile::parse(&format!("{text}\ntimeout_ms = 500"))?;
    /// let config = Config::of(&profile);
    /// assert_eq!(config.timeout, Duration::from_millis(500));
    /// assert_eq!(config.connections_max, Config::default().connections_max);
    /// # Ok::<(), annulet::Error>(())
    /// ```
    pub fn of(profile: &Profile) -> Self {
        let default = Self::default();
        let timeout = profile
            .timeout_ms
            .map(|ms| ms.min(u64::from(BUDGET_MS_MAX)));
        Self {
            timeout: timeout.map_or(default.timeout, Duration::from_millis),
            level: profile.level,
            ..default
        }
    }
}
