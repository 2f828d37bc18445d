//! One server, from its configuration to its stop.

use crate::budget::Budget;
use crate::clock;
use crate::config::Config;
use crate::descriptors;
use crate::disk::Disk;
use crate::epochs::membership::Membership;
use crate::epochs::{self, Ended, Epochs};
use crate::error::{FolderError, ServerError};
use crate::first_view::FirstView;
use crate::http::{State, accept};
use crate::metrics::Metrics;
use crate::net;
use crate::peers::{self, Peers};
use crate::pipeline::{Parts, Pipeline};
use crate::random;
use crate::served::{Current, ServedView};
use crate::store::Engine;
use crate::store::identity::{Folder, Owner};
use crate::store::rocks::{RocksStore, Sizes};
use crate::store::wrap::Plain;
use crate::tls::{Reload, Tls};
use crate::upkeep::{self, Upkeep};
use annulet_protocol::codec::request_bytes_max;
use annulet_protocol::ids::{Incarnation, NodeId};
use annulet_protocol::view::View;
use annulet_replica::chain::Chain;
use annulet_replica::chain::open::{OpenError, Opened, is_begun, open as open_chain};
use annulet_replica::holdings::Holdings;
use annulet_replica::rules::Replica;
use annulet_replica::store::{Store, StoreError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// How long a server whose store failed tells callers so before it exits.
const FAILED_STOP: Duration = Duration::from_secs(1);

/// A server that listens and has its data open; [`Server::run`] makes it serve.
pub struct Server {
    listener: TcpListener,
    state: Arc<State>,
    tls: Arc<Tls>,
    connections_max: usize,
    /// Last of all, so that the folder stays locked while anything may write to it.
    folder: Folder,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("node", &self.state.node)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the files of a configuration, opens the data and listens. It blocks while it reads;
    /// nothing else is to be done yet.
    ///
    /// # Errors
    /// Says what to do before the next start.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        Self::build(config, None, open).await
    }

    /// As [`Server::bind`], on a socket that listens already; `listen` only names it.
    ///
    /// # Errors
    /// As those of [`Server::bind`].
    pub async fn with_listener(config: Config, listener: TcpListener) -> Result<Self, ServerError> {
        Self::build(config, Some(listener), open).await
    }

    async fn build(
        config: Config,
        listener: Option<TcpListener>,
        open: impl FnOnce(&Config, Owner) -> Result<(Folder, Arc<dyn Engine>), FolderError>,
    ) -> Result<Self, ServerError> {
        config.validate().map_err(ServerError::Config)?;
        let first = FirstView::of(&config)?;
        if let FirstView::File(view, _) = &first {
            check_memory(&config, view)?;
        }
        let cluster = first.cluster();
        let tls = Tls::load(config.tls_files(), cluster).map_err(ServerError::Tls)?;
        let owner = Owner {
            cluster,
            claim: first.claim()?,
            incarnation: Incarnation(random::bytes()?),
            start: Incarnation(random::bytes()?),
            now_ms: clock::now_ms(),
        };
        let (folder, engine) = open(&config, owner)?;
        let node = folder.identity().node;
        let chain = chain_of(&config, first, node, &tls, &*engine).await?;
        let view = Arc::clone(chain.view());
        let membership = Membership::of(&config, folder.identity(), &view);
        let current = Arc::new(Current::new(first_served(&*engine, Arc::clone(&view))?));
        let tls = Arc::new(tls);
        let listener = match listener {
            Some(listener) => listener,
            None => net::listen(&config.listen).map_err(|source| ServerError::Listen {
                address: config.listen.clone(),
                source,
            })?,
        };
        let metrics = Arc::new(Metrics::new());
        let memory = Budget::new(config.limits.message_bytes);
        let parts = Parts {
            replica: Replica {
                hint_bytes_max: config.limits.hint_bytes,
                ..Replica::new(node, folder.start())
            },
            engine,
            disk: Disk::new(&config.data, config.disk_bounds()),
            current: Arc::clone(&current),
            metrics: metrics.clone(),
            memory: memory.clone(),
        };
        let state = State {
            node,
            open_data: config.open_data,
            pipeline: Pipeline::start(parts, &config.limits)?,
            peers: Peers::new(&config.limits),
            membership,
            upkeep: Upkeep::default(),
            metrics,
            memory,
            stopping: AtomicBool::new(false),
            epochs: Epochs::new(
                chain,
                current,
                Arc::clone(&tls),
                Incarnation(random::bytes()?),
            ),
            limits: config.limits,
        };
        Ok(Self {
            listener,
            connections_max: descriptors::connections(&state.limits),
            state: Arc::new(state),
            tls,
            folder,
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the system does not know it.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The member of the cluster that it is.
    pub fn node(&self) -> NodeId {
        self.state.node
    }

    /// Serves until `shutdown` is done, then finishes what is under way, or until the store fails.
    ///
    /// # Errors
    /// [`ServerError::StoreFailed`]. What was not acknowledged may or may not be stored.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            listener,
            state,
            tls,
            connections_max,
            folder,
        } = self;
        tracing::info!(
            node = %state.node,
            cluster = %state.view().cluster,
            epoch = state.view().epoch,
            address = ?listener.local_addr().ok(),
            "serving"
        );
        let (stop, stopped) = watch::channel(false);
        let serving = accept::serve(
            listener,
            state.clone(),
            tls.clone(),
            connections_max,
            stopped,
        );
        let serving = tokio::spawn(serving);
        let greeting = tokio::spawn(peers::run(state.clone(), tls.clone()));
        let upkeep = tokio::spawn(upkeep::run(state.clone(), tls.clone()));
        let certificates = tokio::spawn(watch_certificates(state.clone(), tls));
        let epochs = tokio::spawn(epochs::run(state.clone()));
        let failed = tokio::select! {
            () = shutdown => false,
            () = state.pipeline.failure() => true,
        };
        epochs.abort();
        state.stopping.store(true, Ordering::Release);
        tracing::info!("stopping");
        greeting.abort();
        upkeep.abort();
        certificates.abort();
        // Without receivers nothing serves any more, and nobody needs to be told.
        let _ = stop.send(true);
        let aborter = serving.abort_handle();
        if failed {
            drop(tokio::time::timeout(FAILED_STOP, serving).await);
        } else {
            drop(serving.await);
        }
        aborter.abort();
        let (ended, node) = (state.epochs.ended(), state.node);
        let finished = tokio::task::spawn_blocking(move || finish(&state)).await;
        drop(folder);
        match ended {
            Some(Ended::Forked(why)) => return Err(ServerError::Forked(why)),
            Some(Ended::Refused(why)) => return Err(ServerError::Refused(why)),
            Some(Ended::Left) => return Err(ServerError::Left { node }),
            None => {}
        }
        match finished.unwrap_or_else(|panic| Some(panic.to_string())) {
            None => Ok(()),
            Some(why) => Err(ServerError::StoreFailed(why)),
        }
    }
}

/// Ends the lanes, and leaves the store tidy if it is well. Says why if it failed, be it at the
/// very last sync.
fn finish(state: &State) -> Option<String> {
    state.pipeline.stop();
    if let Some(why) = state.pipeline.failed() {
        return Some(why);
    }
    if let Err(error) = state.pipeline.engine().settle() {
        tracing::warn!(%error, "the store was not written out; the next start reads its log");
    }
    tracing::info!("stopped");
    None
}

/// The chain of the store, or a new one with the first view that there is.
async fn chain_of(
    config: &Config,
    first: FirstView,
    node: NodeId,
    tls: &Tls,
    engine: &dyn Engine,
) -> Result<Chain, ServerError> {
    let file = match is_begun(&Plain(engine)).map_err(OpenError::Store)? {
        true => first.of_file(),
        false => Some(first.get(config, node, tls).await?),
    };
    let chain = begin_chain(engine, node, file)?;
    check_memory(config, chain.view())?;
    Ok(chain)
}

/// The chain of the store, or a new one with this view.
fn begin_chain(
    engine: &dyn Engine,
    node: NodeId,
    file: Option<View>,
) -> Result<Chain, ServerError> {
    let store = Plain(engine);
    let Opened {
        chain,
        batch,
        ignored,
        left,
    } = open_chain(&store, node, file)?;
    if left {
        return Err(ServerError::Left { node });
    }
    if !batch.is_empty() {
        // It is durable before any vote: what is written later is not synced without it.
        let failed = |error: StoreError| ServerError::StoreFailed(error.to_string());
        store.write(batch).map_err(failed)?;
    }
    for what in ignored {
        tracing::warn!(
            what,
            "a part of the cluster file is IGNORED: it describes the first epoch, and the cluster \
             has gone on since; change buckets by `annulet bucket`"
        );
    }
    Ok(chain)
}

/// Refuses less memory for messages than the longest value takes.
fn check_memory(config: &Config, view: &View) -> Result<(), ServerError> {
    let is = config.limits.message_bytes;
    let values = view.value_bytes_max;
    let least = 2 * request_bytes_max(values as usize);
    match is < least {
        true => Err(ServerError::Config(format!(
            "limits.message_bytes is {is}; with values of up to {values} bytes it must be at \
             least {least}"
        ))),
        false => Ok(()),
    }
}

/// What is acted under at the start.
fn first_served(engine: &dyn Engine, view: Arc<View>) -> Result<Arc<ServedView>, ServerError> {
    let noted = Holdings::load(&Plain(engine));
    let noted = noted.map_err(|error| ServerError::StoreFailed(error.to_string()))?;
    let served = Arc::new(ServedView::new(view)?);
    Ok(served.with_unready(noted.unready))
}

/// Opens the data folder and the store in it.
fn open(config: &Config, owner: Owner) -> Result<(Folder, Arc<dyn Engine>), FolderError> {
    let mut folder = Folder::open(&config.data, owner)?;
    let disk = Disk::new(&config.data, config.disk_bounds());
    disk.make_room().map_err(|source| FolderError::Io {
        folder: config.data.clone(),
        source,
    })?;
    let sizes = Sizes {
        cache: config.cache_bytes,
        write_buffer: config.write_buffer_bytes,
        open_files: config.limits.open_files,
    };
    let create = !folder.identity().complete;
    let store = RocksStore::open(&folder.store(), sizes, create);
    let store = store.map_err(|why| FolderError::Store {
        folder: config.data.clone(),
        why,
    })?;
    folder.complete()?;
    disk.take_ballast();
    Ok((folder, Arc::new(store)))
}

/// Takes over changed certificates, at times and whenever told to by SIGHUP.
async fn watch_certificates(state: Arc<State>, tls: Arc<Tls>) {
    let mut hangup = Hangup::new();
    let every = Duration::from_millis(state.limits.certificates_ms);
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = hangup.received() => tracing::info!("looking at the certificates, as told"),
        }
        let tls = tls.clone();
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Reload::Unchanged) => {}
            Ok(Reload::Done) => {
                state.metrics.certificate_reloads.inc();
                tracing::info!("new certificates are in use");
            }
            Ok(Reload::Failed(why)) => {
                state.metrics.certificate_errors.inc();
                tracing::error!(why, "new certificates cannot be used; the old ones stay");
            }
            Err(error) => tracing::error!(%error, "looking at the certificates failed"),
        }
    }
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn new() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let signal = signal(SignalKind::hangup());
            if let Err(error) = &signal {
                tracing::warn!(
                    %error,
                    "SIGHUP is not listened to; changed files are found anyway"
                );
            }
            Self {
                signal: signal.ok(),
            }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn received(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
