//! Where a server's first view comes from: the cluster file, a server of the cluster that it joins,
//! or itself, if it begins a cluster. Later starts go on with what is stored.

use crate::cluster_file::{ClusterFile, MemberEntry};
use crate::config::Config;
use crate::error::ServerError;
use crate::peers::link::Link;
use crate::random;
use crate::store::identity::Claim;
use crate::tls::{self, Tls};
use annulet_protocol::codec;
use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_protocol::limits::VIEW_BYTES_MAX;
use annulet_protocol::view::View;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longest time that one server has to give its view.
const GIVE: Duration = Duration::from_secs(10);
/// How often all servers to join are asked, until it is given up.
const ROUNDS: usize = 20;
/// Time between two rounds.
const AGAIN: Duration = Duration::from_millis(500);
/// The name for people of a cluster that a server begins.
const NAME: &str = "annulet";

/// See the module.
pub(crate) enum FirstView {
    /// The cluster file's, and which of its members this server is.
    File(Box<View>, NodeId),
    /// That of the cluster whose certificate this server has, from a server that runs.
    Join(ClusterId),
    /// Of nobody but this server, in the cluster whose certificate it has.
    Bootstrap(ClusterId),
}

impl FirstView {
    /// # Errors
    /// If a file cannot be used, or the cluster file does not list this server.
    pub(crate) fn of(config: &Config) -> Result<Self, ServerError> {
        if config.cluster.is_some() {
            return of_file(config);
        }
        let cluster = tls::cluster_of(&config.tls_files()).map_err(ServerError::Tls)?;
        Ok(match config.bootstrap {
            true => Self::Bootstrap(cluster),
            false => Self::Join(cluster),
        })
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        match self {
            Self::File(view, _) => view.cluster,
            Self::Join(cluster) | Self::Bootstrap(cluster) => *cluster,
        }
    }

    /// The member whose data folder it is.
    ///
    /// # Errors
    /// If the system has no randomness: an id must never be drawn twice.
    pub(crate) fn claim(&self) -> Result<Claim, ServerError> {
        Ok(match self {
            Self::File(_, node) => Claim::Is(*node),
            Self::Join(_) | Self::Bootstrap(_) => {
                let [a, b, c, d, e, f, g, h, ..] = random::bytes()?;
                Claim::New(NodeId(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
            }
        })
    }

    /// The cluster file's, which is compared with what is stored.
    pub(crate) fn of_file(self) -> Option<View> {
        match self {
            Self::File(view, _) => Some(*view),
            Self::Join(_) | Self::Bootstrap(_) => None,
        }
    }

    /// The view that the chain of a new data folder begins with.
    ///
    /// # Errors
    /// [`ServerError::NoSeed`], or what of the settings cannot be.
    pub(crate) async fn get(
        self,
        config: &Config,
        node: NodeId,
        tls: &Tls,
    ) -> Result<View, ServerError> {
        match self {
            Self::File(view, _) => Ok(*view),
            Self::Join(cluster) => join(cluster, &config.join, tls).await,
            Self::Bootstrap(cluster) => bootstrap(cluster, config, node),
        }
    }
}

fn of_file(config: &Config) -> Result<FirstView, ServerError> {
    let path = config.cluster.as_deref().unwrap_or_else(|| "".as_ref());
    let file = ClusterFile::read(path).map_err(ServerError::ClusterFile)?;
    let named =
        |why: String| ServerError::ClusterFile(format!("cluster file `{}`: {why}", path.display()));
    let view = file.view().map_err(named)?;
    let address = config.advertised();
    let Some(member) = file.member_at(address) else {
        let members: Vec<_> = file
            .members
            .iter()
            .map(|member| member.address.as_str())
            .collect();
        return Err(ServerError::NotAMember {
            address: address.to_owned(),
            members: members.join(", "),
        });
    };
    Ok(FirstView::File(Box::new(view), member.id))
}

/// A view of this server alone. Its seed is drawn, so that no two clusters place keys alike.
fn bootstrap(cluster: ClusterId, config: &Config, node: NodeId) -> Result<View, ServerError> {
    let member = MemberEntry {
        id: node,
        address: config.advertised().to_owned(),
        capacity: config.capacity,
        zone: config.zone.clone(),
        region: config.region.clone(),
    };
    let mut file = ClusterFile::new(cluster, NAME, vec![member]);
    file.seed = random::spread() >> 1;
    file.view().map_err(ServerError::Config)
}

/// The view of the first server that gives it.
async fn join(cluster: ClusterId, seeds: &[String], tls: &Tls) -> Result<View, ServerError> {
    let mut why = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(AGAIN).await;
        }
        why.clear();
        for seed in seeds {
            let given = timeout(GIVE, view_of(cluster, seed, tls)).await;
            match given.unwrap_or_else(|_| Err("it does not answer in time".into())) {
                Ok(view) => return Ok(view),
                Err(error) => why.push(format!("`{seed}`: {error}")),
            }
        }
        tracing::info!(why = why.join("; "), "no server to join gives the view yet");
    }
    Err(ServerError::NoSeed(why.join("; ")))
}

async fn view_of(cluster: ClusterId, seed: &str, tls: &Tls) -> Result<View, String> {
    let mut link = Link::open(cluster, tls, seed).await?;
    let body = link.get("/v1/view", VIEW_BYTES_MAX).await?;
    let view = codec::decode_view(&body).map_err(|error| error.to_string())?;
    match view.cluster == cluster {
        true => Ok(view),
        false => Err(format!("it is of cluster {}", view.cluster)),
    }
}
