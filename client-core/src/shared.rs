//! What all parts of one client share.

use crate::config::Config;
use crate::core::Response;
use crate::core::client::{Core, Now};
use crate::core::policy::retry::mix;
use crate::core::policy::waiting::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::net::lane::Pending;
use crate::net::pool::Pool;
use crate::net::views;
use crate::run::{Out, Sleeper, Target};
use crate::statistics::{Counters, add};
use crate::system::Clock;
use annulet_protocol::epoch::number_of;
use annulet_protocol::ids::{ClusterId, Incarnation, NodeId, OpId};
use annulet_protocol::view::View;
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Longest time that looking for a newer view takes.
const REFRESH_MAX: Duration = Duration::from_secs(2);

/// How often a view is looked for that an operation waits for.
const REFRESH_TRIES: u32 = 10;
/// Time between two such looks.
const REFRESH_AGAIN: Duration = Duration::from_millis(100);
/// How often an unknown bucket makes it look for a newer view.
const LOOK_AGAIN_MS: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) cluster: ClusterId,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) runtime: Handle,
    pub(crate) counters: Counters,
    pub(crate) pool: Pool,
    pub(crate) core: Mutex<Core>,
    view: ArcSwap<View>,
    /// Held while a view is fetched, so that one fetch serves all who need it.
    refreshing: tokio::sync::Mutex<()>,
    view_cache: Option<PathBuf>,
    seeds: Vec<String>,
    jitter: OpId,
    drawn: AtomicU64,
    /// Held while a view with an unknown bucket is looked for.
    looking: tokio::sync::Mutex<()>,
    /// When one was looked for last.
    looked_ms: AtomicU64,
    /// Operations that go on in the background, to be woken.
    later: Mutex<Later>,
    closed: AtomicBool,
}

/// Operations whose callers have their results, and when to wake them. A timer for each would cost
/// more than most of them do, and nobody waits: one task looks after all.
#[derive(Debug, Default)]
struct Later {
    entries: Vec<(u64, Sleeper)>,
    is_watched: bool,
}

/// Room of an empty list that is kept.
const LATER_KEPT: usize = 1_024;
/// How often it is looked whom to wake.
const LATER: Duration = Duration::from_millis(20);

/// What a client is made from.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) core: Core,
    pub(crate) seeds: Vec<String>,
    pub(crate) view_cache: Option<PathBuf>,
    pub(crate) incarnation: Incarnation,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let view = Arc::clone(parts.core.view());
        let shared = Arc::new(Self {
            config: parts.config,
            clock: parts.clock,
            cluster: view.cluster,
            tls: parts.tls,
            runtime: Handle::current(),
            counters: Counters::default(),
            pool: Pool::default(),
            core: Mutex::new(parts.core),
            view: ArcSwap::new(view),
            refreshing: tokio::sync::Mutex::default(),
            view_cache: parts.view_cache,
            seeds: parts.seeds,
            jitter: OpId {
                client: parts.incarnation,
                ..OpId::default()
            },
            drawn: AtomicU64::new(0),
            looking: tokio::sync::Mutex::default(),
            looked_ms: AtomicU64::new(0),
            later: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        shared.save_view();
        Pool::keep_swept(&shared);
        shared
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// A coordinator never leaves the core torn, so a poisoned lock is still good.
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// `Closed` once the client was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.is_closed() {
            true => Err(Error::new(
                ErrorKind::Closed,
                "this client was closed: connect a new one",
            )),
            false => Ok(()),
        }
    }

    /// A number that differs from client to client and from call to call.
    pub(crate) fn jitter(&self, node: NodeId) -> u64 {
        let draw = self.drawn.fetch_add(1, Ordering::Relaxed);
        mix(
            &OpId {
                sequence: node.0 ^ draw,
                ..self.jitter
            },
            2,
        )
    }

    /// Fetches a newer view in the background if a server has one.
    pub(crate) fn hear_of(self: &Arc<Self>, epoch: u64) {
        if epoch > self.view().ordinal() {
            self.refresh_for(epoch, None);
        }
    }

    /// Hands answers to the operations that wait for them, after `note` has noted what they say of
    /// the server, and does what the operations say next.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        answers: Vec<(Pending, Option<u64>, Response)>,
        note: impl FnOnce(&mut Core, Now),
    ) {
        let now = self.clock.now();
        let mut out = Vec::new();
        let mut core = self.core();
        note(&mut core, now);
        for (Pending { send, target }, epoch, response) in answers {
            let from = (send.node, send.attempt);
            target.respond(&mut core, now, from, epoch, response, &mut out);
        }
        drop(core);
        self.carry_out(out);
    }

    /// Tells an operation that its time has come.
    pub(crate) fn wake(self: &Arc<Self>, target: Arc<dyn Target>) {
        let mut out = Vec::new();
        let now = self.clock.now();
        target.wake(&mut self.core(), now, &mut out);
        self.carry_out(out);
    }

    /// Does what operations want done. Call it without holding a lock.
    pub(crate) fn carry_out(self: &Arc<Self>, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Send(pending) => {
                    let class = Class::of(&pending.send.operation);
                    match self.pool.lane(self, pending.send.node, class) {
                        Some(lane) => lane.push(self, pending),
                        // The node left the view a moment ago: the newer view comes to the
                        // operation by the refusal of another owner, or its deadline ends it.
                        None => tracing::debug!(node = %pending.send.node, "not a member"),
                    }
                }
                Out::NeedView(epoch, target) => self.refresh_for(epoch, Some(target)),
                Out::Cancel(node, attempt, target) => {
                    if let Some(lane) = self.pool.lane(self, node, Class::Read) {
                        lane.cancel(&target, attempt);
                    }
                }
                Out::Wake(at_ms, sleeper) => self.wake_later(at_ms, sleeper),
            }
        }
    }

    /// Tells what goes on in the background that the client is about to close.
    pub(crate) fn hurry(self: &Arc<Self>) {
        let sleepers: Vec<_> = {
            let later = self.later();
            later
                .entries
                .iter()
                .map(|(_, sleeper)| sleeper.clone())
                .collect()
        };
        let mut out = Vec::new();
        let now = self.clock.now();
        for target in sleepers.into_iter().filter_map(Sleeper::target) {
            target.hurry(&mut self.core(), now, &mut out);
        }
        self.carry_out(out);
    }

    /// Wakes an operation at this time, or a little after it.
    fn wake_later(self: &Arc<Self>, at_ms: u64, sleeper: Sleeper) {
        let mut later = self.later();
        later.entries.push((at_ms, sleeper));
        if !std::mem::replace(&mut later.is_watched, true) {
            drop(later);
            let shared = Arc::clone(self);
            self.runtime.spawn(async move { shared.watch().await });
        }
    }

    /// Wakes whom it is time for, until nobody is left.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LATER).await;
            let now_ms = self.clock.now().mono_ms;
            let (due, last): (Vec<_>, bool) = {
                let mut later = self.later();
                let due = later.entries.extract_if(.., |(at_ms, _)| *at_ms <= now_ms);
                let due = due.collect();
                let last = later.entries.is_empty();
                if last {
                    // What they want to be woken for next has a task of its own.
                    later.is_watched = false;
                    later.entries.shrink_to(LATER_KEPT);
                }
                (due, last)
            };
            for target in due.into_iter().filter_map(|(_, sleeper)| sleeper.target()) {
                self.wake(target);
            }
            if last {
                return;
            }
        }
    }

    /// A panic elsewhere does not tear the list, so a poisoned lock is still good.
    fn later(&self) -> MutexGuard<'_, Later> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a newer view in the background, and tells the operation that needs it.
    fn refresh_for(self: &Arc<Self>, epoch: u64, target: Option<Arc<dyn Target>>) {
        if target.is_none() && self.refreshing.try_lock().is_err() {
            // Someone is at it already.
            return;
        }
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            // Few servers are asked at a time, and these may learn of it a moment later than the
            // one that named it.
            let tries = if target.is_some() { REFRESH_TRIES } else { 1 };
            for left in (0..tries).rev() {
                let Err(why) = shared.refresh(epoch).await else {
                    break;
                };
                if left == 0 {
                    tracing::warn!(%why, epoch = number_of(epoch), "no newer view");
                } else {
                    tokio::time::sleep(REFRESH_AGAIN).await;
                }
            }
            if let Some(target) = target {
                let mut out = Vec::new();
                let (now, view) = (shared.clock.now(), shared.view());
                target.view(&mut shared.core(), now, &view, &mut out);
                shared.carry_out(out);
            }
        });
    }

    /// Looks for a view that has this bucket, if the present one has not, and says whether there is
    /// one. Asks at most once a second, since the name may as well be wrong; who comes while it is
    /// asked waits for what that finds.
    pub(crate) async fn look_for_bucket(self: &Arc<Self>, name: &str) -> bool {
        if self.core().has_bucket(name) {
            return false;
        }
        let _one_at_a_time = self.looking.lock().await;
        if self.core().has_bucket(name) {
            return true;
        }
        let now_ms = self.clock.now().mono_ms;
        let last_ms = self.looked_ms.load(Ordering::Relaxed);
        if now_ms < last_ms + LOOK_AGAIN_MS && last_ms != 0 {
            return false;
        }
        let newer = self.view().ordinal() + 1;
        let shared = Arc::clone(self);
        // It goes on when this caller's time is over, for the next one.
        let look = self.runtime.spawn(async move {
            let found = shared.refresh(newer).await;
            let now_ms = shared.clock.now().mono_ms;
            shared.looked_ms.store(now_ms.max(1), Ordering::Relaxed);
            found
        });
        if let Ok(Err(why)) = look.await {
            tracing::debug!(%why, bucket = name, "no newer view with the bucket");
        }
        self.core().has_bucket(name)
    }

    /// Makes sure that the view is of at least the epoch of this ordinal.
    ///
    /// # Errors
    /// If no server has one.
    pub(crate) async fn refresh(&self, epoch: u64) -> Result<()> {
        let _one_at_a_time = self.refreshing.lock().await;
        let view = self.view();
        if view.ordinal() >= epoch {
            return Ok(());
        }
        let mut addresses: Vec<_> = view.members.iter().map(|m| m.address.clone()).collect();
        let turn = (self.jitter(NodeId(epoch)) % addresses.len().max(1) as u64) as usize;
        addresses.rotate_left(turn);
        addresses.extend(self.seeds.iter().cloned());
        let wanted = |found: &View| found.cluster == self.cluster && found.ordinal() >= epoch;
        let found = views::fetch(addresses, &self.tls, REFRESH_MAX, Some(view), wanted).await?;
        add(&self.counters.views, 1);
        let found = Arc::new(found);
        if self.core().install(Arc::clone(&found)) {
            tracing::info!(epoch = found.epoch, "new view");
            self.view.store(found);
            self.pool.keep_members(self);
            self.save_view();
        }
        Ok(())
    }

    fn save_view(&self) {
        if let Some(path) = self.view_cache.clone() {
            let view = self.view();
            self.runtime
                .spawn_blocking(move || views::save(&path, &view));
        }
    }
}
