//! A TCP relay of the tests' own: what passes can be delayed, slowed down, lost or refused.
//!
//! Each connection has two pipes, one for each way. A pipe reads as bytes come, notes when they
//! are due, and gives them out in order when they are, so that a delay costs no throughput. What
//! a pipe holds is bounded: beyond it the sender waits, as at a link that is full.
#![expect(
    clippy::disallowed_methods,
    reason = "a relay opens sockets and measures delays; nothing else in these tests does both"
)]

mod pipe;

use pipe::{Road, Way};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Connections of one relay at a time; more wait to be accepted. Each holds at most
/// [`pipe::PIPE_BYTES_MAX`] for each way.
const CONNECTIONS_MAX: usize = 256;
/// How long to wait before accepting again after the system refused.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Whether anything passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// All passes.
    #[default]
    Open,
    /// Nothing passes and nobody is told, as on a dead link: what is sent is lost, connections
    /// stay open, new ones wait. When it opens again, connections that have lost bytes are reset,
    /// since nobody sends those again; the others go on.
    Cut,
    /// Connections are reset, new ones too.
    Refused,
}

/// What a relay does to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Whether anything does.
    pub passage: Passage,
    /// How much later than it came something goes on to the target.
    pub delay_there: Duration,
    /// How much later something comes back.
    pub delay_back: Duration,
    /// Bytes per second each way, for all connections together; `None`: as fast as they come.
    pub bytes_per_second: Option<u64>,
}

/// What a relay has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted, those that were reset at once not counted.
    pub connections: u64,
    /// Bytes for the target, those lost included.
    pub bytes_there: u64,
    /// Bytes from the target, those lost included.
    pub bytes_back: u64,
    /// Bytes of either way that were lost.
    pub bytes_lost: u64,
}

/// A relay in front of one target. It works on the runtime that it was started on, until it is
/// dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    link: Arc<Link>,
    task: AbortHandle,
}

/// What the connections of a relay share.
#[derive(Debug)]
struct Link {
    target: String,
    conditions: watch::Sender<Conditions>,
    connections: AtomicU64,
    there: Road,
    back: Road,
}

impl Relay {
    /// A relay at a free port of this machine.
    pub fn to(target: impl Into<String>) -> Self {
        Self::at("127.0.0.1:0", target)
    }

    /// A relay that listens at an address. Call it inside a runtime.
    pub fn at(address: &str, target: impl Into<String>) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("an address of this machine");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let address = listener.local_addr().expect("bound");
        let link = Arc::new(Link {
            target: target.into(),
            conditions: watch::Sender::default(),
            connections: AtomicU64::new(0),
            there: Road::default(),
            back: Road::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&link))).abort_handle();
        Self {
            address,
            link,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, from now on.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.link.conditions.send_modify(change);
    }

    /// Opens, cuts or refuses.
    pub fn set(&self, passage: Passage) {
        self.change(|conditions| conditions.passage = passage);
    }

    /// Delays both ways by as much.
    pub fn delay(&self, delay: Duration) {
        self.change(|conditions| {
            (conditions.delay_there, conditions.delay_back) = (delay, delay);
        });
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        let Link { there, back, .. } = &*self.link;
        Counts {
            connections: self.link.connections.load(Ordering::Relaxed),
            bytes_there: there.passed(),
            bytes_back: back.passed(),
            bytes_lost: there.lost() + back.lost(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = accepted else {
            // The machine has no descriptor left, and will have some when connections end.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if link.conditions.borrow().passage == Passage::Refused {
            reset(client);
            continue;
        }
        link.connections.fetch_add(1, Ordering::Relaxed);
        let link = Arc::clone(&link);
        connections.spawn(async move {
            connection(client, &link).await;
            drop(place);
        });
    }
}

/// Serves one connection until it ends, is refused, or goes on after bytes of it were lost.
async fn connection(mut client: TcpStream, link: &Link) {
    let mut conditions = link.conditions.subscribe();
    let torn = AtomicBool::new(false);
    let mut target = None;
    let ended = {
        let ends = conditions.wait_for(|now| match now.passage {
            Passage::Open => torn.load(Ordering::Relaxed),
            Passage::Cut => false,
            Passage::Refused => true,
        });
        tokio::select! {
            _ = ends => false,
            carried = carry(&mut client, &mut target, link, &torn) => carried.is_ok(),
        }
    };
    if !ended {
        for end in [Some(client), target].into_iter().flatten() {
            reset(end);
        }
    }
}

/// Carries bytes both ways until both ends have said all.
async fn carry(
    client: &mut TcpStream,
    target: &mut Option<TcpStream>,
    link: &Link,
    torn: &AtomicBool,
) -> std::io::Result<()> {
    let mut conditions = link.conditions.subscribe();
    // The relay itself holds the sender, so that waiting for it cannot fail.
    let _ = conditions.wait_for(|now| now.passage != Passage::Cut).await;
    let target = target.insert(TcpStream::connect(&link.target).await?);
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let conditions = &link.conditions;
    let there = Way {
        road: &link.there,
        conditions,
        torn,
        delay: |now| now.delay_there,
    };
    let back = Way {
        road: &link.back,
        delay: |now| now.delay_back,
        ..there
    };
    tokio::try_join!(
        there.carry(from_client, to_target),
        back.carry(from_target, to_client)
    )?;
    Ok(())
}

/// Ends a connection so that the other end notices at once.
fn reset(stream: TcpStream) {
    // A connection that is gone already needs no reset.
    let _ = stream.set_zero_linger();
}
