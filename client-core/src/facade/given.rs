//! Options as languages without types for them give them: names as text, durations and moments as
//! milliseconds in a floating-point number. What is not given stays out; nothing is filled in here.

use crate::buckets as policy;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::op_id::OpId;
use crate::options::{self, Context, Ttl};
use crate::profile::Profile;
use crate::scan;
use annulet_protocol::bucket::{Bucket, Mode};
use annulet_protocol::siblings::merges::Merge;
use bytes::Bytes;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Shortest time that an idle connection stays open.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectOptions {
    /// The profile's file; without it, it is looked for as [`Profile::find`] says.
    pub profile: Option<PathBuf>,
    /// How long an operation may take that names no timeout, in milliseconds.
    pub timeout_ms: Option<f64>,
    /// The level of operations that name none.
    pub level: Option<String>,
    /// The client's zone, in place of the profile's.
    pub zone: Option<String>,
    /// The client's region, in place of the profile's.
    pub region: Option<String>,
    /// See [`Config::connections_max`].
    pub connections_max: Option<i64>,
    /// See [`Config::idle_after`], in milliseconds.
    pub idle_after_ms: Option<f64>,
    /// See [`Config::check_one_in`].
    pub check_one_in: Option<i64>,
}

/// Options of a read, see [`crate::ReadOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadOptions<'a> {
    /// The level's name.
    pub level: Option<&'a str>,
    /// How long the call may take, in milliseconds.
    pub timeout_ms: Option<f64>,
    /// See [`crate::ReadOptions::stale`].
    pub stale: bool,
}

/// Options of a write, see [`crate::WriteOptions`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOptions<'a> {
    /// The level's name.
    pub level: Option<&'a str>,
    /// How long the call may take, in milliseconds.
    pub timeout_ms: Option<f64>,
    /// How long the value lives, in milliseconds; infinite: until it is overwritten or deleted.
    pub ttl_ms: Option<f64>,
    /// Up to when it lives, in milliseconds since the Unix epoch. Not together with `ttl_ms`.
    pub expires_at_ms: Option<f64>,
    /// See [`crate::WriteOptions::context`].
    pub context: Option<Bytes>,
}

/// Options of a scan, see [`crate::ScanOptions`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanOptions<'a> {
    /// See [`crate::ScanOptions::keys_only`].
    pub keys_only: bool,
    /// See [`crate::ScanOptions::page_entries`].
    pub page_entries: Option<i64>,
    /// See [`crate::ScanOptions::cursor`].
    pub cursor: Option<String>,
    /// The level's name.
    pub level: Option<&'a str>,
    /// How long each request for a part of a page may take, in milliseconds.
    pub timeout_ms: Option<f64>,
}

/// The policy of a new bucket, see [`crate::BucketOptions`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketOptions {
    /// The mode's name: `lww`, `siblings` or `strong`.
    pub mode: Option<String>,
    /// See [`crate::BucketOptions::replicas`].
    pub replicas: Option<i64>,
    /// `group` or `async`.
    pub durability: Option<String>,
    /// The level's name.
    pub read_level: Option<String>,
    /// The level's name.
    pub write_level: Option<String>,
    /// How long a value lives if its writer does not say, in milliseconds; infinite: for good.
    pub ttl_ms: Option<f64>,
    /// The merge's name: `union`, `max`, `counter` or `lww`.
    pub merge: Option<String>,
}

/// What is to change of a bucket, see [`crate::BucketChanges`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketChanges {
    /// The level's name.
    pub read_level: Option<String>,
    /// The level's name.
    pub write_level: Option<String>,
    /// How long a value lives if its writer does not say, in milliseconds; infinite: for good.
    pub ttl_ms: Option<f64>,
}

/// A bucket of a cluster, see [`crate::BucketPolicy`].
#[derive(Clone, Debug, PartialEq)]
pub struct BucketPolicy {
    /// Its name.
    pub name: String,
    /// The mode's name.
    pub mode: String,
    /// Owners of each key in each region.
    pub replicas: u8,
    /// `group` or `async`.
    pub durability: String,
    /// Level of reads that name none.
    pub read_level: String,
    /// Level of writes that name none.
    pub write_level: String,
    /// How long a value lives if its writer does not say, in milliseconds; `None`: for good.
    pub ttl_ms: Option<u64>,
    /// The merge's name; `None`: concurrent values stand until the application merges them.
    pub merge: Option<String>,
}

impl ConnectOptions {
    /// The profile, with what is given in its place.
    pub(super) fn profile(&self) -> Result<Profile> {
        let mut profile = Profile::find(self.profile.as_deref())?;
        let instead = |given: &Option<String>, found: &mut Option<String>| {
            if given.is_some() {
                found.clone_from(given);
            }
        };
        instead(&self.zone, &mut profile.zone);
        instead(&self.region, &mut profile.region);
        Ok(profile)
    }

    /// The settings, those of the profile where nothing is given.
    pub(super) fn config(&self, profile: &Profile) -> Result<Config> {
        let mut config = Config::of(profile);
        if let Some(timeout) = timeout(self.timeout_ms)? {
            config.timeout = timeout;
        }
        if let Some(level) = parsed(self.level.as_deref())? {
            config.level = Some(level);
        }
        if let Some(most) = self.connections_max {
            config.connections_max = whole::<u32>("most connections", most, 1)? as usize;
        }
        if let Some(ms) = self.idle_after_ms {
            config.idle_after = duration("idle time", ms)?;
            if config.idle_after < IDLE_MIN {
                let why = format!("an idle time of {ms} ms: it must be at least a second");
                return Err(invalid(why));
            }
        }
        if let Some(one_in) = self.check_one_in {
            config.check_one_in = whole("reads of which one is checked", one_in, 0)?;
        }
        Ok(config)
    }
}

impl ReadOptions<'_> {
    pub(super) fn read(self) -> Result<options::ReadOptions> {
        Ok(options::ReadOptions {
            level: parsed(self.level)?,
            timeout: timeout(self.timeout_ms)?,
            stale: self.stale,
        })
    }
}

impl WriteOptions<'_> {
    /// What is wrong with it was not applied.
    pub(super) fn read(self) -> Result<options::WriteOptions> {
        self.try_read()
            .map_err(|error| error.with_outcome(Outcome::NotApplied))
    }

    fn try_read(self) -> Result<options::WriteOptions> {
        let ttl = match (self.ttl_ms, self.expires_at_ms) {
            (None, None) => Ttl::Bucket,
            (Some(ms), None) => ttl(ms)?,
            (None, Some(at_ms)) => Ttl::Until(moment(at_ms)?),
            (Some(_), Some(_)) => {
                let why = "a time to live and a moment to expire at: give one of them";
                return Err(invalid(why.into()));
            }
        };
        Ok(options::WriteOptions {
            level: parsed(self.level)?,
            timeout: timeout(self.timeout_ms)?,
            ttl,
            context: self.context.map(Context::from_bytes),
        })
    }
}

impl ScanOptions<'_> {
    pub(super) fn read(self) -> Result<scan::ScanOptions> {
        let default = scan::ScanOptions::default();
        Ok(scan::ScanOptions {
            keys_only: self.keys_only,
            page_entries: match self.page_entries {
                Some(entries) => whole("entries of a page", entries, 1)?,
                None => default.page_entries,
            },
            cursor: self.cursor,
            level: parsed(self.level)?,
            timeout: timeout(self.timeout_ms)?,
        })
    }
}

impl BucketOptions {
    pub(super) fn read(&self) -> Result<policy::BucketOptions> {
        let mut read = policy::BucketOptions::new(Mode::Lww);
        fill(&mut read.mode, self.mode.as_deref())?;
        fill(&mut read.durability, self.durability.as_deref())?;
        fill(&mut read.read_level, self.read_level.as_deref())?;
        fill(&mut read.write_level, self.write_level.as_deref())?;
        let replicas = self.replicas.map(|given| whole("replicas", given, 1));
        read.replicas = replicas.transpose()?;
        read.merge = parsed::<Merge>(self.merge.as_deref())?;
        read.ttl = match self.ttl_ms.map(ttl).transpose()? {
            Some(Ttl::After(ttl)) => Some(ttl),
            Some(Ttl::Bucket | Ttl::Never | Ttl::Until(_)) | None => None,
        };
        Ok(read)
    }
}

impl BucketChanges {
    pub(super) fn read(&self) -> Result<policy::BucketChanges> {
        Ok(policy::BucketChanges {
            ttl: self.ttl_ms.map(ttl).transpose()?.unwrap_or_default(),
            read_level: parsed(self.read_level.as_deref())?,
            write_level: parsed(self.write_level.as_deref())?,
        })
    }
}

impl From<Bucket> for BucketPolicy {
    fn from(bucket: Bucket) -> Self {
        Self {
            name: bucket.name,
            mode: bucket.mode.to_string(),
            replicas: bucket.replicas,
            durability: bucket.durability.to_string(),
            read_level: bucket.read_level.to_string(),
            write_level: bucket.write_level.to_string(),
            ttl_ms: bucket.ttl_ms,
            merge: bucket.merge.map(|merge| merge.to_string()),
        }
    }
}

/// The name of a write of unknown outcome, as an error told it.
///
/// # Errors
/// `InvalidInput` if it is none.
pub fn op_id(text: &str) -> Result<OpId> {
    text.parse().map_err(invalid)
}

fn fill<T: FromStr<Err = String>>(place: &mut T, given: Option<&str>) -> Result<()> {
    if let Some(value) = parsed(given)? {
        *place = value;
    }
    Ok(())
}

fn parsed<T: FromStr<Err = String>>(given: Option<&str>) -> Result<Option<T>> {
    given.map(|text| text.parse().map_err(invalid)).transpose()
}

/// A whole number from `least` on; the core may say less of how large it may be.
fn whole<T: TryFrom<i64>>(what: &str, given: i64, least: i64) -> Result<T> {
    let number = T::try_from(given).ok().filter(|_| given >= least);
    number.ok_or_else(|| match given < least {
        true => invalid(format!("{given} {what}: there must be at least {least}")),
        false => invalid(format!("{given} {what}: that is more than there can be")),
    })
}

fn timeout(ms: Option<f64>) -> Result<Option<Duration>> {
    ms.map(|ms| duration("timeout", ms)).transpose()
}

fn ttl(ms: f64) -> Result<Ttl> {
    match ms == f64::INFINITY {
        true => Ok(Ttl::Never),
        false => Ok(Ttl::After(duration("time to live", ms)?)),
    }
}

/// The core says how long it may be.
fn duration(what: &str, ms: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(ms / 1e3)
        .map_err(|_| invalid(format!("a {what} of {ms} ms: it must be a positive time")))
}

fn moment(at_ms: f64) -> Result<u64> {
    // Up to there every whole number of milliseconds has a floating-point number of its own.
    const LAST: f64 = 9_007_199_254_740_992.0;
    match (0.0..=LAST).contains(&at_ms) {
        true => Ok(at_ms as u64),
        false => Err(invalid(format!(
            "a value that expires at {at_ms}: it must be milliseconds since 1970"
        ))),
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::level::Level;

    #[test]
    fn what_is_given_is_read_and_what_is_not_is_left_out() {
        assert_eq!(
            ReadOptions::default().read(),
            Ok(options::ReadOptions::default())
        );
        assert_eq!(
            WriteOptions::default().read(),
            Ok(options::WriteOptions::default())
        );
        assert_eq!(
            ScanOptions::default().read(),
            Ok(scan::ScanOptions::default())
        );
        assert_eq!(
            BucketChanges::default().read(),
            Ok(policy::BucketChanges::default())
        );
        let policy = policy::BucketOptions::new(Mode::Lww);
        assert_eq!(BucketOptions::default().read(), Ok(policy));
        let given = WriteOptions {
            level: Some("r=2,w=3"),
            timeout_ms: Some(0.5),
            ttl_ms: Some(f64::INFINITY),
            context: Some(Bytes::from_static(b"seen")),
            ..WriteOptions::default()
        };
        let read = options::WriteOptions {
            level: Some(Level::Explicit { read: 2, write: 3 }),
            timeout: Some(Duration::from_micros(500)),
            ttl: Ttl::Never,
            context: Some(Context::from_bytes("seen")),
        };
        assert_eq!(given.read(), Ok(read));
        let until = WriteOptions {
            expires_at_ms: Some(1_700_000_000_000.0),
            ..WriteOptions::default()
        };
        let read = until.read().map(|read| read.ttl);
        assert_eq!(read, Ok(Ttl::Until(1_700_000_000_000)));
    }

    #[test]
    fn what_cannot_be_is_refused_and_was_not_applied() {
        let none = WriteOptions::default;
        let wrong = [
            WriteOptions {
                level: Some("most"),
                ..none()
            },
            WriteOptions {
                timeout_ms: Some(-1.0),
                ..none()
            },
            WriteOptions {
                timeout_ms: Some(f64::NAN),
                ..none()
            },
            WriteOptions {
                timeout_ms: Some(f64::INFINITY),
                ..none()
            },
            WriteOptions {
                ttl_ms: Some(-1.0),
                ..none()
            },
            WriteOptions {
                ttl_ms: Some(f64::NEG_INFINITY),
                ..none()
            },
            WriteOptions {
                expires_at_ms: Some(-1.0),
                ..none()
            },
            WriteOptions {
                expires_at_ms: Some(1e300),
                ..none()
            },
            WriteOptions {
                expires_at_ms: Some(f64::NAN),
                ..none()
            },
            WriteOptions {
                ttl_ms: Some(1.0),
                expires_at_ms: Some(1.0),
                ..none()
            },
        ];
        for options in wrong {
            let error = options.clone().read().expect_err("it is wrong");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{options:?}");
            assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{options:?}");
        }
        let mode = BucketOptions {
            mode: Some("weak".into()),
            ..BucketOptions::default()
        };
        assert!(mode.read().is_err());
        for replicas in [0, -1, 256, i64::MAX] {
            let replicas = BucketOptions {
                replicas: Some(replicas),
                ..BucketOptions::default()
            };
            assert!(replicas.read().is_err(), "{replicas:?}");
        }
        let page = ScanOptions {
            page_entries: Some(-1),
            ..ScanOptions::default()
        };
        assert!(page.read().is_err());
        assert!(op_id("nobody").is_err());
    }
}
