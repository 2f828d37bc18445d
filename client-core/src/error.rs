//! The one public error.

use crate::op_id::OpId;
use std::fmt;

/// What a caller can do about an error.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("default");
/// use annulet::ErrorKind;
///
/// match profiles.get("user:kind").await {
///     Ok(profile) => println!("found: {}", profile.is_some()),
///     Err(error) => match error.kind() {
///         ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded => {
///             println!("try again later: {error}");
///         }
///         ErrorKind::Unauthorized => println!("change the profile: {error}"),
///         _ => return Err(error),
///     },
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself cannot be: a key or value over a limit, an unknown bucket, a level that
    /// needs more replicas than there are. Change the request.
    InvalidInput,
    /// The condition of a conditional write did not hold. Read again, then decide anew.
    Conflict,
    /// Too few replicas could be reached, or they refused. Try again later, or at a lower level.
    Unavailable,
    /// The deadline passed. Try again, or give it more time; a write may have been applied.
    Timeout,
    /// The servers have too much to do. Try again later and slower.
    Overloaded,
    /// The servers do not accept this client's certificate or role. Change the profile.
    Unauthorized,
    /// The client was shut down. Connect a new one.
    Closed,
    /// A fault of Annulet's own. Report it.
    Internal,
}

impl ErrorKind {
    /// Every kind there is today.
    ///
    /// ```
    /// use annulet::ErrorKind;
    ///
    /// assert!(ErrorKind::ALL.contains(&ErrorKind::Timeout));
    /// ```
    pub const ALL: &'static [Self] = &[
        Self::InvalidInput,
        Self::Conflict,
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Closed,
        Self::Internal,
    ];

    /// The name, the same in every language.
    ///
    /// ```
    /// assert_eq!(annulet::ErrorKind::InvalidInput.as_str(), "InvalidInput");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "InvalidInput",
            Self::Conflict => "Conflict",
            Self::Unavailable => "Unavailable",
            Self::Timeout => "Timeout",
            Self::Overloaded => "Overloaded",
            Self::Unauthorized => "Unauthorized",
            Self::Closed => "Closed",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a write that failed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("default");
/// use annulet::Outcome;
///
/// match profiles.put("user:outcome", "Ada").await.map_err(|error| error.outcome()) {
///     Ok(written) => println!("stored as {}", written.version),
///     Err(Some(Outcome::NotApplied)) => println!("not stored, and never will be"),
///     Err(Some(Outcome::Unknown) | None) => println!("perhaps stored"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was not applied anywhere and never will be.
    NotApplied,
    /// It may have been applied, or be applied later.
    Unknown,
}

impl Outcome {
    /// The name, the same in every language.
    ///
    /// ```
    /// assert_eq!(annulet::Outcome::NotApplied.as_str(), "not_applied");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an operation failed. The kind says what to do; the message is for people and may change.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// # let profiles = client.bucket("default");
/// use annulet::{ErrorKind, Outcome};
///
/// let refused = profiles.put("", "Ada").await;
/// if let Err(error) = refused {
///     assert_eq!(error.kind(), ErrorKind::InvalidInput);
///     assert_eq!(error.outcome(), Some(Outcome::NotApplied));
///     assert!(!error.is_retryable());
///     println!("{error}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    outcome: Option<Outcome>,
    /// Boxed: nearly no error has one, and every result is as large as its error.
    op_id: Option<Box<OpId>>,
}

/// The result of everything that can fail here.
///
/// ```
/// fn number(value: &[u8]) -> annulet::Result<u64> {
///     let number = String::from_utf8_lossy(value).parse();
///     number.map_err(|_| annulet::Error::new(annulet::ErrorKind::InvalidInput, "no number"))
/// }
/// assert_eq!(number(b"7")?, 7);
/// # Ok::<(), annulet::Error>(())
/// ```
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind.
    ///
    /// ```
    /// use annulet::{Error, ErrorKind};
    ///
    /// // For functions of one's own that fail like those of this crate.
    /// let error = Error::new(ErrorKind::InvalidInput, "no such product");
    /// assert_eq!(error.to_string(), "InvalidInput: no such product");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            outcome: None,
            op_id: None,
        }
    }

    /// The same error, of a write with this outcome.
    ///
    /// ```
    /// use annulet::{Error, ErrorKind, Outcome};
    ///
    /// let error = Error::new(ErrorKind::Timeout, "too late").with_outcome(Outcome::Unknown);
    /// assert_eq!(error.outcome(), Some(Outcome::Unknown));
    /// ```
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// The same error, of the write of this name.
    #[must_use]
    pub(crate) fn with_op_id(mut self, op_id: OpId) -> Self {
        self.op_id = Some(Box::new(op_id));
        self
    }

    /// What the caller can do about it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// use annulet::ErrorKind;
    ///
    /// let unknown = client.bucket("no-such-bucket").get("user:1").await;
    /// assert_eq!(unknown.map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    /// # Ok(()) }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, for people.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// if let Err(error) = client.bucket("no-such-bucket").get("user:1").await {
    ///     assert!(error.message().contains("no-such-bucket"));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What became of the write; `None` for anything but writes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// use annulet::Outcome;
    ///
    /// let too_long = vec![b'k'; 5_000];
    /// let refused = profiles.put(&too_long, "Ada").await;
    /// assert_eq!(refused.map_err(|error| error.outcome()), Err(Some(Outcome::NotApplied)));
    /// let refused = profiles.get(&too_long).await;
    /// assert_eq!(refused.map_err(|error| error.outcome()), Err(None));
    /// # Ok(()) }
    /// ```
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// The name of a write of unknown outcome in a strong bucket: [`crate::Bucket::resolve`] tells
    /// what became of it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let locks = client.bucket("strong");
    /// match locks.put("job:op_id", "worker-3").await {
    ///     Ok(written) => println!("stored as {}", written.version),
    ///     Err(error) => match error.op_id() {
    ///         Some(op_id) => println!("{:?}", locks.resolve("job:op_id", op_id).await?),
    ///         None => return Err(error),
    ///     },
    /// }
    /// # Ok(()) }
    /// ```
    pub fn op_id(&self) -> Option<&OpId> {
        self.op_id.as_deref()
    }

    /// Whether the same call may succeed later. A last-write-wins write of unknown outcome may be
    /// repeated: at worst it is written twice. One of a strong bucket may not, since it may be
    /// applied after others by then: ask what became of it first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// # let profiles = client.bucket("default");
    /// let mut tries = 0;
    /// let profile = loop {
    ///     match profiles.get("user:retry").await {
    ///         Err(error) if error.is_retryable() && tries < 3 => tries += 1,
    ///         done => break done?,
    ///     }
    /// };
    /// # Ok(()) }
    /// ```
    pub fn is_retryable(&self) -> bool {
        if self.op_id.is_some() {
            return false;
        }
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded => true,
            ErrorKind::InvalidInput
            | ErrorKind::Conflict
            | ErrorKind::Unauthorized
            | ErrorKind::Closed
            | ErrorKind::Internal => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        match self.outcome {
            Some(outcome) => write!(f, " (outcome {})", outcome.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once() {
        let place = |kind: &ErrorKind| match kind {
            ErrorKind::InvalidInput => 0,
            ErrorKind::Conflict => 1,
            ErrorKind::Unavailable => 2,
            ErrorKind::Timeout => 3,
            ErrorKind::Overloaded => 4,
            ErrorKind::Unauthorized => 5,
            ErrorKind::Closed => 6,
            ErrorKind::Internal => 7,
        };
        assert!(ErrorKind::ALL.iter().map(place).eq(0..8));
    }
}
