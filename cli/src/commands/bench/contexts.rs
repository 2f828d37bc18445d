//! What a process has seen of the keys of a siblings bucket, so that its puts replace values
//! instead of standing beside them.

use super::workload::Keys;
use crate::connect::Session;
use crate::failure::Failure;
use annulet::{Context, WriteOptions, Written};
use annulet_protocol::bucket::Mode;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The contexts by key; nothing where the bucket has none.
#[derive(Clone, Default)]
pub(super) struct Contexts {
    seen: Option<Arc<Mutex<HashMap<String, Context>>>>,
}

impl Contexts {
    /// Reads so many keys, if they have contexts: reading is not to be measured.
    pub(super) async fn read(session: &Session, keys: u64) -> Result<Self, Failure> {
        let view = session.client.view();
        let bucket = view.bucket_named(&session.bucket_name);
        if bucket.is_none_or(|bucket| bucket.mode != Mode::Siblings) {
            return Ok(Self::default());
        }
        let mut seen = HashMap::new();
        let mut next = 0;
        while next < keys {
            let end = keys.min(next + AT_ONCE);
            let names: Vec<_> = (next..end).map(Keys::name).collect();
            let asked: Vec<_> = names.iter().cloned().map(Bytes::from).collect();
            for (name, entry) in names.into_iter().zip(session.bucket.multi_get(asked).await) {
                if let Some(entry) = entry? {
                    seen.insert(name, entry.context);
                }
            }
            next = end;
        }
        Ok(Self {
            seen: Some(Arc::new(Mutex::new(seen))),
        })
    }

    /// The options of a put of this key.
    pub(super) fn with(&self, options: WriteOptions, key: &str) -> WriteOptions {
        let Some(seen) = &self.seen else {
            return options;
        };
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        WriteOptions {
            context: seen.get(key).cloned(),
            ..options
        }
    }

    /// Notes what a put has seen. Where another value stands beside it, the older context stays.
    pub(super) fn note(&self, key: String, written: Written) {
        if let (Some(seen), Some(context)) = (&self.seen, written.context) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(key, context);
        }
    }
}

/// Keys that are read at the same time.
const AT_ONCE: u64 = 2_000;
