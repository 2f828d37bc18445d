//! Two regions on this machine: a network for each, and a link between them that is slow, and can
//! be cut.
//!
//! Each region is a network namespace with an address for its servers. In the other region that
//! address is one of relays, which hand on what they are sent over the link, later. So clients and
//! servers of both regions use the very same addresses, and cannot meet but over the link.

use super::node::Node;
use super::relay::{Passage, Relay};
use super::space::Space;
use super::{Cluster, Options, Place, wire};
use annulet::{Client, Config, Profile};
use std::process::Command;
use std::time::Duration;

/// The regions' names.
pub const NAMES: [&str; 2] = ["east", "west"];
/// The address of each region's servers, in both networks. They need no free ports: the networks
/// are their own.
const HOSTS: [&str; 2] = ["10.77.1.1", "10.77.2.1"];
const PORTS: [u16; 2] = [7410, 7420];
/// The addresses of the two ends of the link.
const ENDS: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
/// The name of both ends.
const LINK: &str = "between";

/// What happens to the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// It is down, and both ends see that.
    Down,
    /// Nothing comes through, and nobody sees why.
    Silent,
    /// As `Down`, and what was on the way is lost for good: connections across end with it.
    Lossy,
}

/// Two regions and the cluster that spans them.
pub struct Regions {
    // In this order: processes end before their network goes.
    /// The cluster: first the servers of one region, then those of the other.
    pub cluster: Cluster,
    /// Relays in each region, to the servers of the other.
    relays: [Vec<Relay>; 2],
    spaces: [Space; 2],
    each: usize,
    named: bool,
}

impl Regions {
    /// Starts so many servers in each region, each in a zone of its own, `delay` apart from those
    /// of the other region. `None` where the environment allows to go without.
    pub async fn start(each: usize, delay: Duration) -> Option<Self> {
        Self::start_named(each, delay, NAMES).await
    }

    /// The same networks, with servers that are all of one region: the owners of a key stand on
    /// both sides, more of them on one.
    pub async fn start_as_one(each: usize, delay: Duration) -> Option<Self> {
        Self::start_named(each, delay, ["", ""]).await
    }

    async fn start_named(each: usize, delay: Duration, names: [&str; 2]) -> Option<Self> {
        let spaces = Space::make()?;
        connect(&spaces);
        let mut relays = [Vec::new(), Vec::new()];
        let mut nodes = Vec::new();
        for region in 0..2 {
            for index in 0..each {
                let port = PORTS[region] + u16::try_from(index).expect("few servers");
                let address = format!("{}:{port}", HOSTS[region]);
                let other = 1 - region;
                let (at, target) = (address.clone(), format!("{}:{port}", ENDS[region]));
                let relay = spaces[other].run(async move { Relay::at(&at, target) });
                let relay = relay.await;
                relay.delay(delay);
                relays[other].push(relay);
                let place = Place {
                    zone: zone(region, index),
                    region: names[region].into(),
                };
                let listen = format!("0.0.0.0:{port}");
                let node = Node::new(place, listen, address);
                nodes.push(node.inside(spaces[region].name()));
            }
        }
        let mut cluster = Cluster::prepare(nodes, &Options::default());
        cluster.start_all().await;
        Some(Self {
            cluster,
            relays,
            spaces,
            each,
            named: names == NAMES,
        })
    }

    /// A client in a region that knows where it is. What it says of that, and how it is set up,
    /// can be changed.
    pub async fn client(
        &self,
        region: usize,
        change: impl FnOnce(&mut Profile, &mut Config),
    ) -> Client {
        let mut profile = self.cluster.profile();
        profile.region = self.named.then(|| NAMES[region].into());
        let mut config = Config::of(&profile);
        change(&mut profile, &mut config);
        let connecting = async move { Client::connect_with(profile, config).await };
        let client = self.spaces[region].run(connecting).await;
        client.expect("a cluster that answers")
    }

    /// A command that runs the program in a region.
    pub fn command(&self, region: usize) -> Command {
        self.cluster.nodes[region * self.each].command()
    }

    /// The servers of a region.
    pub fn servers(&self, region: usize) -> std::ops::Range<usize> {
        region * self.each..(region + 1) * self.each
    }

    /// What a server has counted under this name.
    pub async fn metric(&self, node: usize, name: &'static str) -> f64 {
        let tls = wire::tls(&self.cluster, Some("tester"));
        let address = self.cluster.address(node);
        let asking = async move { wire::metric(&address, &tls, name).await };
        self.spaces[node / self.each].run(asking).await
    }

    /// Cuts the link.
    pub fn cut(&self, outage: Outage) {
        match outage {
            Outage::Down => self.spaces[0].ip(&["link", "set", LINK, "down"]),
            Outage::Silent => self.spaces.iter().for_each(|space| space.filter(DROP_ALL)),
            Outage::Lossy => {
                self.pass(Passage::Cut);
                self.cut(Outage::Down);
            }
        }
    }

    /// Undoes [`Regions::cut`].
    pub fn heal(&self, outage: Outage) {
        match outage {
            Outage::Down => self.spaces[0].ip(&["link", "set", LINK, "up"]),
            Outage::Silent => self.spaces.iter().for_each(|space| space.filter(DROP_NONE)),
            Outage::Lossy => {
                self.heal(Outage::Down);
                self.pass(Passage::Open);
            }
        }
    }

    fn pass(&self, passage: Passage) {
        for relay in self.relays.iter().flatten() {
            relay.set(passage);
        }
    }
}

const DROP_ALL: &str = "table inet annulet {
    chain arriving {
        type filter hook input priority 0; policy accept;
        iifname \"between\" drop
    }
}
";
const DROP_NONE: &str = "delete table inet annulet\n";

/// The zone of a region's server of this index.
pub fn zone(region: usize, index: usize) -> String {
    format!("{}-{index}", NAMES[region])
}

/// Joins two namespaces by a link, and gives them their addresses.
fn connect(spaces: &[Space; 2]) {
    let [one, other] = spaces;
    let pair = ["type", "veth", "peer", "name", LINK, "netns", other.name()];
    one.ip(&[&["link", "add", LINK][..], &pair].concat());
    for (space, end) in spaces.iter().zip(ENDS) {
        space.ip(&["addr", "add", &format!("{end}/24"), "dev", LINK]);
        space.ip(&["link", "set", LINK, "up"]);
        for host in HOSTS {
            space.ip(&["addr", "add", &format!("{host}/32"), "dev", "lo"]);
        }
    }
}
