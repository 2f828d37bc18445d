//! The profile: how a program finds its cluster and who it is there.

use crate::error::{Error, ErrorKind, Result};
use annulet_protocol::level::Level;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Environment variable that names a profile.
///
/// ```
/// assert_eq!(annulet::PROFILE_VARIABLE, "ANNULET_PROFILE");
/// ```
pub const PROFILE_VARIABLE: &str = "ANNULET_PROFILE";
const LOCAL_PROFILE: &str = ".annulet/profile.toml";

/// Where the cluster is, the certificates to use, and defaults. A TOML file; paths in it are
/// relative to its folder.
///
/// ```
/// use annulet::{Level, Profile};
///
/// let profile = Profile::parse(
///     r#"
///     seeds = ["host-1:7400", "host-2:7400"]
///     ca = "ca.pem"
///     cert = "shop.pem"
///     key = "shop.key"
///     zone = "rack-1"
///     level = "local_quorum"
///     timeout_ms = 500
///     "#,
/// )?;
/// assert_eq!((profile.seeds.len(), profile.level), (2, Some(Level::LocalQuorum)));
/// # Ok::<(), annulet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Some servers of the cluster, each `host:port`. One that answers is enough; the others are
    /// learned from it.
    pub seeds: Vec<String>,
    /// The cluster's certificate authority, a PEM file.
    pub ca: PathBuf,
    /// This client's certificate, a PEM file.
    pub cert: PathBuf,
    /// Its private key, a PEM file.
    pub key: PathBuf,
    /// The client's zone: replicas there are asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The client's region: replicas there are asked before those elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The bucket of commands that name none; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The level of operations that name none; the bucket's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// How long an operation that says nothing may take, in milliseconds, 1 to 600,000; 2,000 if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Where the view is kept between runs, so that the cluster is found even when every seed is
    /// gone; `view.cache` beside the profile if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_cache: Option<PathBuf>,
}

impl Profile {
    /// The profile that a program should use: `explicit`, else the file that `$ANNULET_PROFILE`
    /// names, else `.annulet/profile.toml` here or in a parent folder, else `annulet/profile.toml`
    /// in the user's configuration folder.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// use annulet::{Client, Profile};
    ///
    /// // A path from the command line would stand in place of `None`.
    /// let client = Client::connect(Profile::find(None)?).await?;
    /// assert!(!client.view().members.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if there is none, or it cannot be read.
    pub fn find(explicit: Option<&Path>) -> Result<Self> {
        if let Some(path) = explicit {
            return Self::load(path);
        }
        if let Some(path) = std::env::var_os(PROFILE_VARIABLE).filter(|path| !path.is_empty()) {
            return Self::load(Path::new(&path));
        }
        let here = std::env::current_dir().unwrap_or_default();
        let local = here.ancestors().map(|folder| folder.join(LOCAL_PROFILE));
        let user = directories::ProjectDirs::from("", "", "annulet")
            .map(|folders| folders.config_dir().join("profile.toml"));
        match local.chain(user).find(|path| path.is_file()) {
            Some(path) => Self::load(&path),
            None => Err(invalid(format!(
                "no profile found: name one, set {PROFILE_VARIABLE}, or start a local cluster \
                 with `annulet dev`, which makes {LOCAL_PROFILE}"
            ))),
        }
    }

    /// Reads a profile; its paths become absolute.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use annulet::Profile;
    ///
    /// let path = folder.path().join("profile.toml");
    /// let text = "seeds = ['host-1:7400']\nca = 'ca.pem'\ncert = 'a.pem'\nkey = 'a.key'";
    /// std::fs::write(&path, text)?;
    /// let profile = Profile::load(&path)?;
    /// assert_eq!(profile.ca, folder.path().join("ca.pem"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if it cannot be read or is not a profile.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| invalid(format!("cannot read the profile {}: {e}", path.display())))?;
        let mut profile = Self::parse(&text)
            .map_err(|e| invalid(format!("{}: {}", path.display(), e.message())))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [&mut profile.ca, &mut profile.cert, &mut profile.key] {
            *file = folder.join(&*file);
        }
        let cache = profile.view_cache.unwrap_or_else(|| "view.cache".into());
        profile.view_cache = Some(folder.join(cache));
        Ok(profile)
    }

    /// Reads the text of a profile, with paths as they stand there.
    ///
    /// ```
    /// use annulet::{ErrorKind, Profile};
    ///
    /// let text = "seeds = ['host-1:7400']\nca = 'ca.pem'\ncert = 'a.pem'\nkey = 'a.key'";
    /// assert_eq!(Profile::parse(text)?.seeds, ["host-1:7400"]);
    /// let misspelt = Profile::parse(&format!("{text}\ntimeuot_ms = 500"));
    /// assert_eq!(misspelt.map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    /// # Ok::<(), annulet::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if it is not one.
    pub fn parse(text: &str) -> Result<Self> {
        let profile: Self =
            toml::from_str(text).map_err(|e| invalid(format!("not a profile: {e}")))?;
        profile.validate()?;
        Ok(profile)
    }

    /// Writes the profile.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// use annulet::Profile;
    ///
    /// let text = "seeds = ['host-1:7400']\nca = 'ca.pem'\ncert = 'a.pem'\nkey = 'a.key'";
    /// let mut profile = Profile::parse(text)?;
    /// profile.timeout_ms = Some(500);
    /// let path = folder.path().join("profile.toml");
    /// profile.save(&path)?;
    /// assert_eq!(Profile::load(&path)?.timeout_ms, Some(500));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("profile to TOML: {e}")))?;
        std::fs::write(path, text)
            .map_err(|e| invalid(format!("cannot write the profile {}: {e}", path.display())))
    }

    fn validate(&self) -> Result<()> {
        if self.seeds.is_empty() {
            return Err(invalid(
                "the profile has no seeds: name at least one server".into(),
            ));
        }
        if self.timeout_ms == Some(0) {
            return Err(invalid(
                "the profile's timeout_ms is 0: it must be at least 1".into(),
            ));
        }
        Ok(())
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written_with_paths_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        let profile = Profile {
            seeds: vec!["localhost:7400".into()],
            ca: "ca.pem".into(),
            cert: "/etc/client.pem".into(),
            key: "client.key".into(),
            zone: Some("a".into()),
            region: None,
            bucket: None,
            level: Some(Level::One),
            timeout_ms: Some(500),
            view_cache: None,
        };
        profile.save(&path).unwrap();
        let read = Profile::find(Some(&path)).unwrap();
        assert_eq!(read.ca, folder.path().join("ca.pem"));
        assert_eq!(read.cert, Path::new("/etc/client.pem"));
        assert_eq!(read.view_cache, Some(folder.path().join("view.cache")));
        assert_eq!((read.level, read.timeout_ms), (Some(Level::One), Some(500)));
    }

    #[test]
    fn a_profile_with_a_misspelt_field_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        std::fs::write(
            &path,
            "seeds=['a:1']\nca='a'\ncert='b'\nkey='c'\ntimeuot_ms=5\n",
        )
        .unwrap();
        let error = Profile::load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("timeuot_ms"), "{error}");
    }
}
