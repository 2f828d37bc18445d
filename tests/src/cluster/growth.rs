//! Clusters that grow: one server begins, others join.

use super::node::Node;
use super::{Cluster, Options, Place, annulet, free_ports};
use ::annulet::NodeId;

impl Cluster {
    /// Starts one server that begins a cluster.
    pub async fn bootstrap() -> Self {
        let options = Options::default();
        let node = new_node(0, "bootstrap = true");
        let mut cluster = Self::prepare(vec![node], &options);
        cluster.restart(0).await;
        cluster
    }

    /// Starts a server of this capacity, in a zone of its own, that joins by the address of
    /// another. Gives its place among the servers.
    pub async fn join(&mut self, by: usize, capacity: u32) -> usize {
        let index = self.nodes.len();
        let seed = self.address(by);
        let membership = format!("join = [\"{seed}\"]\ncapacity = {capacity}\nzone = \"z{index}\"");
        self.nodes.push(new_node(index, &membership));
        let certs = self.folder().join("certs");
        let certs = certs.to_str().expect("a folder with a plain name");
        let name = format!("node-{index}");
        annulet(&["cert", "peer", &name, "--dir", certs, "--host", "127.0.0.1"]);
        self.configure(index);
        self.restart(index).await;
        index
    }

    /// Takes the data of a server that does not run, and lets its next start join by the address
    /// of another, in place of this member.
    pub fn lose_data(&mut self, node: usize, by: usize, replaces: NodeId) {
        std::fs::remove_dir_all(self.data(node)).expect("removes the data");
        let seed = self.address(by);
        self.nodes[node].membership = format!("join = [\"{seed}\"]\nreplace = \"{replaces}\"");
        self.configure(node);
    }

    /// The first line of a server that is started without the data it had.
    pub async fn start_without_data(&mut self, node: usize) -> String {
        std::fs::remove_dir_all(self.data(node)).expect("removes the data");
        self.try_restart(node).await
    }

    fn configure(&self, index: usize) {
        self.nodes[index].write_config(self.folder(), index, &Options::default());
    }
}

fn new_node(index: usize, membership: &str) -> Node {
    let port = free_ports(1)[0];
    let place = Place {
        zone: format!("z{index}"),
        region: String::new(),
    };
    let address = format!("127.0.0.1:{port}");
    let mut node = Node::new(place, address.clone(), address);
    membership.clone_into(&mut node.membership);
    node
}
