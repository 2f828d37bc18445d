//! What every language's client must do alike: the cases of `conformance/cases.json`, the clusters
//! that they run against, and the runner of the Rust façade. Each language's tests have a runner of
//! their own over the same file.
//!
//! # Layout
//! - [`Scene`]: the clusters and profiles of a run; a program of any language finds them by the
//!   file that [`SCENE_VARIABLE`] names
//! - [`run`]: all cases, by the façade; [`shown`]: what operations show, and whether it is expected

mod runner;
pub mod shown;

pub use runner::{Failed, run};

use crate::cluster::{Cluster, Options, binary};
use annulet::Profile;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Names the file that says where clusters, profiles and cases are.
pub const SCENE_VARIABLE: &str = "ANNULET_SCENE";
/// Names the folders of the clusters, by colons: for toolchains that see only what they are shown.
pub const FOLDERS_VARIABLE: &str = "ANNULET_SCENE_FOLDERS";

/// Buckets of the clusters besides those that all test clusters have.
const BUCKETS: &str = r#"
[[bucket]]
number = 5
name = "plain"

[[bucket]]
number = 6
name = "carts"
mode = "siblings"

[[bucket]]
number = 7
name = "latest"
mode = "siblings"
merge = "lww"

[[bucket]]
number = 8
name = "short"
ttl_ms = 3600000

[[bucket]]
number = 9
name = "register"
mode = "strong"
replicas = 1
"#;

/// Three servers, some by themselves that cases stop or end, and profiles of who may use them.
pub struct Scene {
    /// The three servers.
    pub main: Cluster,
    /// A server that may be stopped for a while.
    pub lonely: Cluster,
    /// A server that may be ended.
    pub doomed: Cluster,
    /// Another one, for languages with two clients.
    pub spare: Cluster,
}

impl Scene {
    /// Starts the servers and writes the profiles.
    pub async fn start() -> Self {
        let main = start(3).await;
        let (lonely, doomed) = (start(1).await, start(1).await);
        let scene = Self {
            main,
            lonely,
            doomed,
            spare: start(1).await,
        };
        scene.write_profiles();
        scene
    }

    /// The file that says where everything is.
    pub fn file(&self) -> PathBuf {
        self.main.folder().join("scene.json")
    }

    /// Where the clusters have their files.
    pub fn folders(&self) -> [&Path; 4] {
        [&self.main, &self.lonely, &self.doomed, &self.spare].map(Cluster::folder)
    }

    /// A profile's file.
    pub fn profile(&self, name: &str) -> PathBuf {
        self.main.folder().join(format!("{name}.toml"))
    }

    fn write_profiles(&self) {
        let main = self.main.admin_profile();
        let unreachable = Profile {
            // A port that is given to nobody.
            seeds: vec!["127.0.0.1:1".into()],
            ..main.clone()
        };
        let wrong_ca = Profile {
            ca: self.lonely.profile().ca,
            ..main.clone()
        };
        let profiles = [
            ("main", main),
            ("user", self.main.profile()),
            ("lonely", self.lonely.profile()),
            ("doomed", self.doomed.profile()),
            ("spare", self.spare.profile()),
            ("unreachable", unreachable),
            ("wrong_ca", wrong_ca),
        ];
        let mut files = serde_json::Map::new();
        for (name, mut profile) in profiles {
            profile.view_cache = Some(self.main.folder().join(format!("{name}.cache")));
            let file = self.profile(name);
            profile.save(&file).expect("writes a file");
            files.insert(name.into(), json!(file));
        }
        let malformed = self.profile("malformed");
        std::fs::write(&malformed, "misspelt = 1\n").expect("writes a file");
        files.insert("malformed".into(), json!(malformed));
        files.insert("missing".into(), json!(self.profile("missing")));
        let scene = json!({
            "cases": cases_file(),
            "profiles": files,
            "servers": {
                "lonely": self.lonely.process(0),
                "doomed": self.doomed.process(0),
                "spare": self.spare.process(0),
            },
            "annulet": binary(),
        });
        std::fs::write(self.file(), scene.to_string()).expect("writes a file");
    }
}

async fn start(servers: usize) -> Cluster {
    let mut cluster = Cluster::prepared(Options::servers(servers));
    cluster.write_cluster_file(1, BUCKETS);
    cluster.start_all().await;
    cluster
}

/// The table of cases.
pub fn cases_file() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.with_file_name("conformance").join("cases.json")
}

/// The cases, in the order in which they are run.
pub fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(cases_file()).expect("a readable file");
    let table: Value = serde_json::from_str(&text).expect("a file of JSON");
    table["cases"].as_array().expect("a list of cases").clone()
}
