//! What JavaScript gets: arrays, which the package makes objects of.

use annulet::facade;
use bytes::Bytes;
use napi::bindgen_prelude::*;

/// A result that JavaScript can be shown.
pub(crate) trait Show: Send + 'static {
    /// As a value of JavaScript.
    fn show(self, env: &Env) -> Result<Unknown<'_>>;
}

/// A copy: memory of another owner costs more than copying until it is long, and is not taken by
/// every engine.
pub(crate) fn buffer<'env>(env: &'env Env, bytes: &Bytes) -> Result<Unknown<'env>> {
    BufferSlice::copy_from(env, bytes)?.into_unknown(env)
}

/// The parts of an error: kind, message, outcome, whether it may be tried again, the write's name.
pub(crate) fn failed<'env>(env: &'env Env, error: &annulet::Error) -> Result<Unknown<'env>> {
    let outcome = error.outcome().map(|outcome| outcome.as_str());
    let op_id = error.op_id().map(ToString::to_string);
    let parts = (
        error.kind().as_str(),
        error.message(),
        outcome,
        error.is_retryable(),
        op_id,
    );
    parts.into_unknown(env)
}

/// Whether it went well, and what it gave or what is wrong: of what is not awaited, or of one of
/// several results.
pub(crate) fn given<T: Show>(env: &Env, result: annulet::Result<T>) -> Result<Unknown<'_>> {
    let (is_done, shown) = match result {
        Ok(shown) => (true, shown.show(env)?),
        Err(error) => (false, failed(env, &error)?),
    };
    (is_done, shown).into_unknown(env)
}

fn milliseconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64)
}

impl Show for annulet::Entry {
    /// The value and its version; more only where there is more, since each part costs.
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let value = buffer(env, &self.value)?;
        let one = self.siblings.len() == 1 && self.siblings.first() == Some(&self.value);
        let context = self.context.to_bytes();
        if one && context.is_empty() && self.expires_at_ms.is_none() && self.is_merged {
            return (value, self.version).into_unknown(env);
        }
        let siblings = self.siblings.iter().map(|sibling| buffer(env, sibling));
        let siblings = match one {
            true => None,
            false => Some(siblings.collect::<Result<Vec<_>>>()?),
        };
        let expires_at_ms = milliseconds(self.expires_at_ms);
        let context = buffer(env, &context)?;
        let parts = (
            value,
            self.version,
            expires_at_ms,
            self.is_merged,
            siblings,
            context,
        );
        parts.into_unknown(env)
    }
}

impl Show for annulet::Written {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let context = self.context.map(|context| buffer(env, &context.to_bytes()));
        let siblings = self.siblings as u32;
        let parts = (
            self.version,
            self.superseded,
            context.transpose()?,
            siblings,
        );
        parts.into_unknown(env)
    }
}

impl Show for facade::NumberedPage {
    /// Its number, its entries or `null`, and where the next one begins.
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let entry = |entry: annulet::ScanEntry| {
            let value = entry.value.map(|value| buffer(env, &value)).transpose()?;
            let expires_at_ms = milliseconds(entry.expires_at_ms);
            Ok((
                buffer(env, &entry.key)?,
                value,
                entry.version,
                expires_at_ms,
            ))
        };
        // Scans of four thousand million pages are not heard of.
        let number = self.number as u32;
        let Some(page) = self.page else {
            return (number, Null, Null).into_unknown(env);
        };
        let entries = page.entries.into_iter().map(entry);
        let entries = entries.collect::<Result<Vec<_>>>()?;
        (number, entries, page.cursor).into_unknown(env)
    }
}

impl Show for facade::BucketPolicy {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let parts = (
            self.name,
            self.mode,
            u32::from(self.replicas),
            self.durability,
            self.read_level,
            self.write_level,
            milliseconds(self.ttl_ms),
            self.merge,
        );
        parts.into_unknown(env)
    }
}

impl Show for facade::Committed {
    /// Whether it is done, and what was written.
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let (is_done, written) = match self {
            Self::Done(written) => (true, written.show(env)?),
            Self::Again => (false, ().show(env)?),
        };
        (is_done, written).into_unknown(env)
    }
}

impl Show for annulet::Resolved {
    /// What became of it, and the version if it was applied.
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let parts = match self {
            Self::Applied { version } => ("applied", Some(version)),
            Self::NotApplied => ("not_applied", None),
            Self::Forgotten => ("forgotten", None),
        };
        parts.into_unknown(env)
    }
}

impl Show for Bytes {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        buffer(env, &self)
    }
}

impl Show for bool {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        self.into_unknown(env)
    }
}

impl Show for () {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        Null.into_unknown(env)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        match self {
            Some(shown) => shown.show(env),
            None => ().show(env),
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        let shown = self.into_iter().map(|one| one.show(env));
        shown.collect::<Result<Vec<_>>>()?.into_unknown(env)
    }
}

/// One of several results.
impl<T: Show> Show for annulet::Result<T> {
    fn show(self, env: &Env) -> Result<Unknown<'_>> {
        given(env, self)
    }
}
