//! `annulet dev`: a local cluster, one server process a node, that stops when this program does.

mod child;
mod layout;
mod ports;

use self::child::{Event, Server};
use self::layout::Layout;
use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::signals::StopSignals;
use annulet::{Client, Profile};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Servers of a new cluster [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: Option<u16>,
    /// Folder of the cluster; what is there is started again
    #[arg(
        long,
        default_value = ".annulet",
        value_name = "DIR",
        conflicts_with = "ephemeral"
    )]
    dir: PathBuf,
    /// First of the ports, one a server; 0 takes free ones [default: 7400, or those of the last
    /// time]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Keep everything in a temporary folder, removed at the end
    #[arg(long)]
    ephemeral: bool,
}

pub(crate) async fn run(args: DevArgs, common: &Common) -> Result<Exit, Failure> {
    let mut signals = StopSignals::catch()?;
    // Removed when it is dropped, after the servers have stopped.
    let temporary = if args.ephemeral {
        Some(temporary_folder()?)
    } else {
        None
    };
    let folder = temporary
        .as_ref()
        .map_or(args.dir.as_path(), |folder| folder.path());
    // The layout holds the folder's lock until the end.
    let (_layout, mut cluster) = tokio::select! {
        started = start(folder, &args) => started?,
        _ = signals.next() => return Ok(Exit::Done),
    };
    let announced = cluster.announce(common);
    let ended = match announced {
        Ok(()) => cluster.run(&mut signals).await,
        Err(failure) => Err(failure),
    };
    cluster.stop().await;
    ended
}

/// A local cluster whose servers all answer.
struct Cluster {
    servers: Vec<Server>,
    events: mpsc::Receiver<(usize, Event)>,
    profile: PathBuf,
}

async fn start(folder: &Path, args: &DevArgs) -> Result<(Layout, Cluster), Failure> {
    let mut layout = Layout::prepare(folder, args.nodes.map(usize::from), args.port)?;
    let mut tries = START_TRIES;
    loop {
        tries -= 1;
        match start_servers(&layout).await? {
            Started::All(cluster) => {
                wait_until_all_answer(&cluster.profile).await?;
                return Ok((layout, cluster));
            }
            // Between choosing the ports and listening on them, another program took one.
            Started::PortTaken(_) if args.port == Some(0) && tries > 0 => {
                layout.take_ports(args.port)?;
            }
            Started::PortTaken(failure) => return Err(failure),
        }
    }
}

enum Started {
    All(Cluster),
    PortTaken(Failure),
}

async fn start_servers(layout: &Layout) -> Result<Started, Failure> {
    let nodes = layout.nodes();
    // Each server has two things to say.
    let (sender, mut events) = mpsc::channel(nodes.len() * 2);
    let mut servers = Vec::with_capacity(nodes.len());
    for node in nodes {
        servers.push(Server::start(node, sender.clone())?);
    }
    drop(sender);
    let mut listening = 0;
    while listening < servers.len() {
        let event = timeout(START_MAX, events.recv()).await.ok().flatten();
        match event {
            Some((_, Event::Listening)) => listening += 1,
            Some((number, Event::Ended(status))) => {
                let failure = not_started(&servers[number - 1], status);
                let address = servers[number - 1].address.clone();
                stop_all(servers).await;
                let port = address
                    .rsplit_once(':')
                    .and_then(|(_, port)| port.parse().ok());
                return match port {
                    Some(port) if !ports::is_free(port) => Ok(Started::PortTaken(failure)),
                    _ => Err(failure),
                };
            }
            None => {
                let seconds = START_MAX.as_secs();
                return Err(Failure::failed(format!(
                    "the servers do not listen after {seconds} s"
                ))
                .advise("is the machine very busy? their logs are in node-*/server.log"));
            }
        }
    }
    Ok(Started::All(Cluster {
        servers,
        events,
        profile: layout.profile(),
    }))
}

fn not_started(server: &Server, status: Option<ExitStatus>) -> Failure {
    Failure::failed(format!(
        "node {} did not start ({}); the end of its log:{}",
        server.number,
        ending(status),
        server.last_words()
    ))
}

/// Asks as a client would, until every server says that it is up.
async fn wait_until_all_answer(profile: &Path) -> Result<(), Failure> {
    let profile = Profile::find(Some(profile))?;
    let all_up = async {
        loop {
            match Client::connect(profile.clone()).await {
                Ok(client) => {
                    let members = client.members().await;
                    client.close().await;
                    // A server whose disk is full serves, too; users want to get at it.
                    if members
                        .iter()
                        .all(|member| ["up", "full"].contains(&member.state))
                    {
                        return;
                    }
                }
                Err(error) => tracing::debug!("not yet: {error}"),
            }
            sleep(ASK_AGAIN).await;
        }
    };
    timeout(START_MAX, all_up).await.map_err(|_| {
        Failure::failed("the servers listen, but do not all answer")
            .advise("their logs are in node-*/server.log")
    })
}

impl Cluster {
    fn announce(&self, common: &Common) -> Result<(), Failure> {
        for Server {
            number,
            pid,
            address,
            ..
        } in &self.servers
        {
            if common.json {
                output::json(&json!({ "node": number, "pid": pid, "address": address }))?;
            } else {
                output::line(&format!("node {number} pid={pid} address={address}"))?;
            }
        }
        if common.json {
            output::json(&json!({ "ready": true, "profile": self.profile }))
        } else {
            output::line(&format!("ready profile={}", self.profile.display()))
        }
    }

    /// Goes on until it is asked to stop. A server that ends is told, and left: whoever killed it
    /// to see what happens will start it again.
    async fn run(&mut self, signals: &mut StopSignals) -> Result<Exit, Failure> {
        let mut running = self.servers.len();
        while running > 0 {
            tokio::select! {
                biased;
                _ = signals.next() => return Ok(Exit::Done),
                event = self.events.recv() => match event {
                    Some((number, Event::Ended(status))) => {
                        running -= 1;
                        tell_ended(&self.servers[number - 1], status);
                    }
                    Some((_, Event::Listening)) => {}
                    None => break,
                },
            }
        }
        Err(Failure::failed("all servers have ended")
            .advise("their logs are in node-*/server.log; `annulet dev` starts them again"))
    }

    async fn stop(self) {
        stop_all(self.servers).await;
    }
}

/// All at the same time: each may have requests to finish.
async fn stop_all(mut servers: Vec<Server>) {
    servers.iter_mut().for_each(Server::ask_to_stop);
    for server in servers {
        server.stopped().await;
    }
}

fn tell_ended(server: &Server, status: Option<ExitStatus>) {
    let Server {
        number,
        pid,
        config,
        log,
        ..
    } = server;
    output::note(&format!(
        "node {number} pid={pid} ended ({}); its log is {}; start it again with: annulet serve \
         --config {}",
        ending(status),
        log.display(),
        config.display()
    ));
}

fn ending(status: Option<ExitStatus>) -> String {
    status.map_or_else(
        || "it is not known how".to_owned(),
        |status| status.to_string(),
    )
}

fn temporary_folder() -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("annulet-dev-")
        .tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))
}

/// Starting includes opening the store, which may have a log to replay.
const START_MAX: Duration = Duration::from_secs(60);
const START_TRIES: usize = 5;
const ASK_AGAIN: Duration = Duration::from_millis(50);
