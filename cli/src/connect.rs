//! From flags and profile to a bucket in hand.

use crate::args::{Common, Single, Target};
use crate::failure::Failure;
use annulet::{Bucket, Client, Level, Profile, ReadOptions, Ttl, View, WriteOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A connected client, and what the flags say about its operations.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) bucket: Bucket,
    pub(crate) bucket_name: String,
    target: Target,
    profile_level: Option<Level>,
    /// What it has seen, and the file that this is kept in.
    steps: Option<(annulet::Session, PathBuf)>,
}

/// A client for the profile that the flags name, or the one that is found without.
pub(crate) async fn client(common: &Common) -> Result<Client, Failure> {
    let profile = Profile::find(common.profile.as_deref())?;
    Ok(Client::connect(profile).await?)
}

/// A client, and the bucket to work on.
pub(crate) async fn session(common: &Common, target: &Target) -> Result<Session, Failure> {
    let profile = Profile::find(common.profile.as_deref())?;
    let named = target.bucket.clone().or_else(|| profile.bucket.clone());
    let bucket_name = named.unwrap_or_else(|| DEFAULT_BUCKET.to_owned());
    let profile_level = profile.level;
    let client = Client::connect(profile).await?;
    Ok(Session {
        bucket: client.bucket(&bucket_name),
        client,
        bucket_name,
        target: target.clone(),
        profile_level,
        steps: None,
    })
}

/// The same, going on from the session of the flags, if they name one.
pub(crate) async fn session_in(common: &Common, single: &Single) -> Result<Session, Failure> {
    // Read before connecting, so that a wrong path fails at once.
    let token = match &single.session {
        Some(path) => match std::fs::read(path) {
            Ok(token) => Some((path.clone(), Some(token))),
            Err(error) if error.kind() == ErrorKind::NotFound => Some((path.clone(), None)),
            Err(error) => return Err(Failure::unreadable(path, &error)),
        },
        None => None,
    };
    let mut session = session(common, &single.target).await?;
    if let Some((path, token)) = token {
        let steps = match token {
            Some(token) => session.client.session_from(&token)?,
            None => session.client.session(),
        };
        session.bucket = steps.bucket(&session.bucket_name);
        session.steps = Some((steps, path));
    }
    Ok(session)
}

impl Session {
    /// Keeps the session, if there is one, and closes the client.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let kept = match &self.steps {
            Some((steps, path)) => match steps.to_bytes().await {
                Ok(token) => keep(path, &token),
                Err(error) => Err(error.into()),
            },
            None => Ok(()),
        };
        self.client.close().await;
        kept
    }

    /// Fails if the cluster has no such bucket, before anything is begun.
    pub(crate) fn check_bucket(&self) -> Result<(), Failure> {
        match self.client.view().bucket_named(&self.bucket_name) {
            Some(_) => Ok(()),
            None => Err(
                Failure::usage(format!("no bucket is named {}", self.bucket_name))
                    .advise("`annulet bucket list` lists them"),
            ),
        }
    }

    pub(crate) fn reading(&self) -> ReadOptions {
        ReadOptions {
            level: self.target.level,
            timeout: self.target.timeout,
            ..ReadOptions::default()
        }
    }

    pub(crate) fn writing(&self, ttl: Option<Ttl>) -> WriteOptions {
        WriteOptions {
            level: self.target.level,
            timeout: self.target.timeout,
            ttl: ttl.unwrap_or_default(),
            context: None,
        }
    }

    /// The level that operations have in the end, for reports.
    pub(crate) fn level_in_effect(&self, writes: bool) -> Option<Level> {
        let view: Arc<View> = self.client.view();
        let bucket = view.bucket_named(&self.bucket_name)?;
        let of_bucket = if writes {
            bucket.write_level
        } else {
            bucket.read_level
        };
        Some(
            self.target
                .level
                .or(self.profile_level)
                .unwrap_or(of_bucket),
        )
    }
}

/// Writes a file whole or not at all.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        let why = format!("the session cannot be kept in {}: {error}", path.display());
        Failure::usage(why)
    })
}

const DEFAULT_BUCKET: &str = "default";
