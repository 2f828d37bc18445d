//! Counters of one client.

use crate::core::client::Counts;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters once, as atomics inside and as plain numbers outside.
macro_rules! counters {
    ($( $(#[$meta:meta])* $name:ident ),+ $(,)?) => {
        /// What a client has done since it connected.
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> annulet::Result<()> {
        /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
        /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
        /// let profiles = client.bucket("default");
        /// let before = client.statistics();
        /// profiles.put("user:statistics", "Ada").await?;
        /// profiles.get("user:statistics").await?;
        /// let after = client.statistics();
        /// assert_eq!((after.writes - before.writes, after.reads - before.reads), (1, 1));
        /// # Ok(()) }
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Statistics {
            $( $(#[$meta])* pub $name: u64, )+
            /// Reads for which another replica was asked since the first took longer than most do.
            pub hedges: u64,
            /// Messages to find out how a replica is that is not asked otherwise.
            pub trials: u64,
            /// Records left with a fallback for an owner that could not be reached.
            pub hints: u64,
            /// Reads of a session for which more owners were asked than their level needs.
            pub widened: u64,
        }

        impl Statistics {
            /// The counts by their names, for whoever shows them all.
            ///
            /// ```
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() -> annulet::Result<()> {
            /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
            /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
            /// for (name, count) in client.statistics().by_name() {
            ///     println!("annulet_client_{name}_total {count}");
            /// }
            /// # Ok(()) }
            /// ```
            pub fn by_name(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $( (stringify!($name), self.$name), )+
                    ("hedges", self.hedges),
                    ("trials", self.trials),
                    ("hints", self.hints),
                    ("widened", self.widened),
                ]
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $( pub(crate) $name: AtomicU64 ),+ }

        impl Counters {
            /// All of them; those that the core counts are given.
            pub(crate) fn read(&self, core: Counts) -> Statistics {
                let Counts {
                    hedges,
                    trials,
                    hints,
                    widened,
                } = core;
                Statistics {
                    $( $name: self.$name.load(Ordering::Relaxed), )+
                    hedges,
                    trials,
                    hints,
                    widened,
                }
            }
        }
    };
}

counters! {
    /// Gets and exists begun.
    reads,
    /// Puts, deletes and touches begun.
    writes,
    /// Parts of scans begun.
    scans,
    /// Operations that ended in an error.
    errors,
    /// Messages sent to servers, one for each operation and replica.
    messages,
    /// Messages that brought a newer record to a replica.
    repairs,
    /// Requests that the messages went in.
    requests,
    /// Messages that had no answer.
    unanswered,
    /// Messages whose answers were not waited for, since others had come first.
    cancelled,
    /// Connections opened.
    connections,
    /// Connections opened by resuming an earlier TLS session.
    connections_resumed,
    /// Connections closed because they were idle or too many.
    connections_closed,
    /// Views fetched.
    views,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
