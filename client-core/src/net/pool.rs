//! All servers' lanes, and a cap on the connections that are open.

use super::lane::Lane;
use crate::core::policy::waiting::Class;
use crate::shared::Shared;
use annulet_protocol::ids::NodeId;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// One server as a client knows it.
#[derive(Debug)]
struct Server {
    address: String,
    lanes: [Arc<Lane>; Class::ALL.len()],
}

/// Every server's lanes; connections are opened when a lane first sends.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    servers: RwLock<HashMap<NodeId, Server>>,
}

impl Pool {
    /// The lane of this class to this member. `None` if the view has no such member.
    pub(crate) fn lane(&self, shared: &Shared, node: NodeId, class: Class) -> Option<Arc<Lane>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&node) {
            return Some(Arc::clone(&server.lanes[class as usize]));
        }
        drop(servers);
        let address = shared.view().member(node)?.address.clone();
        let lanes = Class::ALL.map(|class| Arc::new(Lane::new(node, address.clone(), class)));
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(node).or_insert(Server { address, lanes });
        Some(Arc::clone(&server.lanes[class as usize]))
    }

    /// Forgets servers that left or moved. Their lanes end with the messages they hold.
    pub(crate) fn keep_members(&self, shared: &Shared) {
        let view = shared.view();
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|node, server| {
            view.member(*node)
                .is_some_and(|member| member.address == server.address)
        });
    }

    /// Every lane.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers
            .values()
            .flat_map(|server| server.lanes.iter().cloned())
            .collect()
    }

    /// Closes connections that are idle, and the least recently used ones over the cap.
    pub(crate) fn sweep(&self, shared: &Shared) {
        let now_ms = shared.clock.now().mono_ms;
        let mut open: Vec<_> = self
            .lanes()
            .into_iter()
            .filter(|lane| lane.is_open())
            .collect();
        open.sort_by_key(|lane| lane.used_ms());
        let over = open.len().saturating_sub(shared.config.connections_max);
        let idle_ms = shared.config.idle_after.as_millis() as u64;
        for (at, lane) in open.iter().enumerate() {
            if (at < over || lane.used_ms() + idle_ms <= now_ms) && lane.close_if_idle() {
                crate::statistics::add(&shared.counters.connections_closed, 1);
            }
        }
    }

    /// Sweeps now and then for as long as the client lives.
    pub(crate) fn keep_swept(shared: &Arc<Shared>) {
        let weak = Arc::downgrade(shared);
        shared.runtime.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                match weak.upgrade() {
                    Some(shared) if !shared.is_closed() => shared.pool.sweep(&shared),
                    Some(_) | None => return,
                }
            }
        });
    }
}
