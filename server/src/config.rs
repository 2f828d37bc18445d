//! How one server is set up: the file of `annulet serve --config FILE`.

use crate::disk::Bounds;
use annulet_protocol::ids::NodeId;
use annulet_protocol::limits::NAME_BYTES_MAX;
use annulet_replica::restore::DAMAGE_WAIT_MS;
use annulet_replica::rules::HINT_BYTES_MAX;
use annulet_replica::spread::CLIENT_HAS_MS;
use annulet_replica::sweep::EXPIRED_KEPT_MS;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One server's settings. A file gives them as TOML under the same names; what it does not know is
/// an error, and paths in it are taken from its own folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of this server's data; made if it is missing. One server, one folder.
    pub data: PathBuf,
    /// Host and port to listen on. Port 0 takes a free one; then `advertise` is needed.
    pub listen: String,
    /// Host and port that clients and peers connect to. By it a server finds itself in the cluster
    /// file. `None`: the same as `listen`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The cluster file: members and buckets, the same on every server. One of this, `join` and
    /// `bootstrap` is needed.
    #[serde(default)]
    pub cluster: Option<PathBuf>,
    /// Addresses of servers of the cluster that this one joins. With data of its own it is a member
    /// already, and only goes on.
    #[serde(default)]
    pub join: Vec<String>,
    /// Whether this server begins a cluster, of which it is the first member. With data of its own
    /// it only goes on.
    #[serde(default)]
    pub bootstrap: bool,
    /// The member that leaves once this server, which joins, can take its place: one that is to be
    /// taken out of service, or whose data is lost.
    #[serde(default)]
    pub replace: Option<NodeId>,
    /// Its share of the data when it joins, relative to the others', at least 1.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// What fails together with it: a rack, an availability zone. As it is when it joins.
    #[serde(default)]
    pub zone: String,
    /// Its datacentre. As it is when it joins.
    #[serde(default)]
    pub region: String,
    /// Certificate of the cluster's authority, PEM.
    pub ca: PathBuf,
    /// This server's certificate chain with role `peer`, PEM.
    pub cert: PathBuf,
    /// The private key of `cert`, PEM.
    pub key: PathBuf,
    /// Memory for blocks of stored data, from 1 MiB. More memory, fewer reads from disk; it fills
    /// as data is read.
    #[serde(default = "default_cache_bytes")]
    pub cache_bytes: usize,
    /// Memory for writes that are not yet in sorted files, from 4 MiB. More memory, fewer and
    /// larger files, longer recovery.
    #[serde(default = "default_write_buffer_bytes")]
    pub write_buffer_bytes: usize,
    /// Whether data may be read and written without a certificate. For closed networks only;
    /// endpoints between servers demand one all the same.
    #[serde(default)]
    pub open_data: bool,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// Bounds on what one server takes on at a time. What is over one is refused with a hint when to
/// come back; nothing queues without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections, from 1. When there are so many and another one comes, one that is idle is
    /// closed: first those without a certificate of the cluster, of these the one that has had no
    /// request for longest. While all have requests under way, more wait in the system's backlog.
    /// Each takes some 45 KiB of memory while it is idle. Fewer are taken where the process may not
    /// open so many files.
    pub connections: usize,
    /// Concurrent requests of one connection, from 1.
    pub streams: u32,
    /// Operations queued for the writer, and as many for the readers, from 1. More bear larger
    /// bursts, and let latency grow longer before clients are told.
    pub operations_queued: usize,
    /// Bytes of keys and values queued for the writer, from 1 MiB.
    pub write_bytes_queued: usize,
    /// Bytes of requests and replies in memory, from twice the longest request.
    pub message_bytes: usize,
    /// Threads that read from disk, 1 to 64. What is in memory is read without them.
    pub reader_threads: usize,
    /// Data files kept open, from 64. Where data has more files, some reads open one first.
    pub open_files: u32,
    /// Longest TLS handshake, in milliseconds.
    pub handshake_ms: u64,
    /// Longest time for the headers of a request, for its body, and for a long answer to be taken,
    /// in milliseconds. Over HTTP/1.1 the time for the headers begins with the answer before.
    pub request_ms: u64,
    /// How long a connection without a request stays open, in milliseconds. Clients of this
    /// project close theirs after a minute; where the server is quicker, a request may meet a
    /// connection that is just being closed, and costs another try.
    pub idle_ms: u64,
    /// How long a stopping server waits for requests under way, in milliseconds.
    pub stop_ms: u64,
    /// How often certificate files are looked at for changes, in milliseconds.
    pub certificates_ms: u64,
    /// How often a sample of the peers is greeted, in milliseconds.
    pub hello_ms: u64,
    /// Room on disk below which no new values are taken, in bytes. What the store has taken already
    /// is written out and compacted in it, so it should be several times `write_buffer_bytes`.
    pub disk_reserve_bytes: u64,
    /// Part of the disk in use from which the server says that it is filling up, in percent.
    pub disk_soft_percent: u32,
    /// Bytes of a file that is given up where the disk is full at the start, so that the store can
    /// open; 0: none.
    pub disk_ballast_bytes: u64,
    /// Bytes on disk that records kept for servers that are away may take.
    pub hint_bytes: u64,
    /// How often what is kept for others is looked at, in milliseconds.
    pub deliver_ms: u64,
    /// How long a client has to send on what was minted here before this server does, in
    /// milliseconds.
    pub spread_after_ms: u64,
    /// Time between two steps of the look at all that is stored, in milliseconds.
    pub sweep_ms: u64,
    /// How long the value of an expired record stays on disk, in milliseconds.
    pub expired_kept_ms: u64,
    /// How long a damaged record is left alone before it is fetched from its other owners, in
    /// milliseconds. Less than the longest timeout of any client can lose its last write.
    pub damage_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            streams: 512,
            operations_queued: 16_384,
            write_bytes_queued: 64 << 20,
            message_bytes: 256 << 20,
            reader_threads: 2,
            open_files: 512,
            handshake_ms: 10_000,
            request_ms: 30_000,
            idle_ms: 90_000,
            stop_ms: 10_000,
            certificates_ms: 3_000,
            hello_ms: 5_000,
            disk_reserve_bytes: 512 << 20,
            disk_soft_percent: 80,
            disk_ballast_bytes: 64 << 20,
            hint_bytes: HINT_BYTES_MAX,
            deliver_ms: 200,
            spread_after_ms: CLIENT_HAS_MS,
            sweep_ms: 100,
            expired_kept_ms: EXPIRED_KEPT_MS,
            damage_wait_ms: DAMAGE_WAIT_MS,
        }
    }
}

impl Limits {
    /// Each limit that has a range: its name, what it is, the least and the most.
    fn ranges(&self) -> impl Iterator<Item = (&'static str, usize, usize, usize)> {
        [
            ("limits.connections", self.connections, 1, 1 << 20),
            ("limits.streams", self.streams as usize, 1, 1 << 16),
            (
                "limits.operations_queued",
                self.operations_queued,
                1,
                1 << 24,
            ),
            (
                "limits.write_bytes_queued",
                self.write_bytes_queued,
                1 << 20,
                usize::MAX,
            ),
            (
                "limits.message_bytes",
                self.message_bytes,
                1 << 20,
                usize::MAX,
            ),
            ("limits.reader_threads", self.reader_threads, 1, 64),
            ("limits.open_files", self.open_files as usize, 64, 1 << 20),
            (
                "limits.handshake_ms",
                self.handshake_ms as usize,
                1,
                TIME_MS_MAX,
            ),
            (
                "limits.request_ms",
                self.request_ms as usize,
                1,
                TIME_MS_MAX,
            ),
            ("limits.idle_ms", self.idle_ms as usize, 1, TIME_MS_MAX),
            ("limits.stop_ms", self.stop_ms as usize, 0, TIME_MS_MAX),
            (
                "limits.certificates_ms",
                self.certificates_ms as usize,
                1,
                TIME_MS_MAX,
            ),
            ("limits.hello_ms", self.hello_ms as usize, 1, TIME_MS_MAX),
            (
                "limits.disk_soft_percent",
                self.disk_soft_percent as usize,
                1,
                100,
            ),
            (
                "limits.deliver_ms",
                self.deliver_ms as usize,
                1,
                TIME_MS_MAX,
            ),
            ("limits.sweep_ms", self.sweep_ms as usize, 1, TIME_MS_MAX),
        ]
        .into_iter()
    }
}

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// See [`Config::ca`].
    pub ca: PathBuf,
    /// See [`Config::cert`].
    pub cert: PathBuf,
    /// See [`Config::key`].
    pub key: PathBuf,
}

fn default_capacity() -> u32 {
    1
}

fn default_cache_bytes() -> usize {
    64 << 20
}

fn default_write_buffer_bytes() -> usize {
    64 << 20
}

impl Config {
    /// A server with the usual settings. What is missing is where it finds its cluster: one of
    /// [`Config::cluster`], [`Config::join`] and [`Config::bootstrap`].
    pub fn new(data: impl Into<PathBuf>, listen: impl Into<String>, tls: TlsFiles) -> Self {
        Self {
            data: data.into(),
            listen: listen.into(),
            advertise: None,
            cluster: None,
            join: Vec::new(),
            bootstrap: false,
            replace: None,
            capacity: default_capacity(),
            zone: String::new(),
            region: String::new(),
            ca: tls.ca,
            cert: tls.cert,
            key: tls.key,
            cache_bytes: default_cache_bytes(),
            write_buffer_bytes: default_write_buffer_bytes(),
            open_data: false,
            limits: Limits::default(),
        }
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// Names the file and the place in it that cannot be.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("configuration file `{}`: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let mut config = Self::parse(&text).map_err(named)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let Self {
            data,
            cluster,
            ca,
            cert,
            key,
            ..
        } = &mut config;
        for file in [data, ca, cert, key].into_iter().chain(cluster) {
            *file = folder.join(&file);
        }
        Ok(config)
    }

    /// Reads the text of a file, with paths as they stand there.
    ///
    /// # Errors
    /// Names the place in it that cannot be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// Says which setting is out of range, and the range.
    pub fn validate(&self) -> Result<(), String> {
        let memory = [
            ("cache_bytes", self.cache_bytes, 1 << 20, usize::MAX),
            (
                "write_buffer_bytes",
                self.write_buffer_bytes,
                4 << 20,
                usize::MAX,
            ),
        ];
        for (name, is, least, most) in memory.into_iter().chain(self.limits.ranges()) {
            if !(least..=most).contains(&is) {
                return Err(match most {
                    usize::MAX => format!("{name} is {is}; it must be at least {least}"),
                    _ => format!("{name} is {is}; it must be {least} to {most}"),
                });
            }
        }
        self.validate_membership()
    }

    /// What says which cluster it is of, and as what it joins it.
    fn validate_membership(&self) -> Result<(), String> {
        let ways = [
            self.cluster.is_some(),
            !self.join.is_empty(),
            self.bootstrap,
        ];
        if ways.into_iter().filter(|given| *given).count() != 1 {
            return Err(
                "one of `cluster` (a file), `join` (addresses of servers) and `bootstrap` \
                        is needed"
                    .into(),
            );
        }
        if self.cluster.is_some() {
            let given = self.capacity != default_capacity()
                || !(self.zone.is_empty() && self.region.is_empty());
            return match given {
                true => Err("`capacity`, `zone` and `region` are in the cluster file".into()),
                false if self.replace.is_some() => Err(NOT_JOINING.into()),
                false => Ok(()),
            };
        }
        if self.replace.is_some() && self.join.is_empty() {
            return Err(NOT_JOINING.into());
        }
        if self.join.len() > SEEDS_MAX {
            return Err(format!("`join` has more than {SEEDS_MAX} addresses"));
        }
        if let Some(seed) = self.join.iter().find(|seed| !is_address(seed)) {
            return Err(format!("`join`: `{seed}` is not an address `host:port`"));
        }
        let address = self.advertised();
        if !is_address(address) || is_any(address) {
            return Err(format!(
                "`{address}` is nothing that others could connect to: set `advertise` to the \
                 host and port by which they know this server"
            ));
        }
        if self.capacity == 0 {
            return Err("capacity must be at least 1".into());
        }
        let names = [address, &self.zone, &self.region];
        match names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
            true => Err(format!(
                "address, zone and region have at most {NAME_BYTES_MAX} bytes"
            )),
            false => Ok(()),
        }
    }

    /// Host and port that others know this server by.
    pub fn advertised(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.listen)
    }

    /// Bounds on the use of the disk.
    pub(crate) fn disk_bounds(&self) -> Bounds {
        Bounds {
            reserve_bytes: self.limits.disk_reserve_bytes,
            soft_percent: self.limits.disk_soft_percent,
            ballast_bytes: self.limits.disk_ballast_bytes,
        }
    }

    /// Where the certificates are.
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

/// Whether it is a host and a port.
pub(crate) fn is_address(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether it says where to listen and not whom to connect to.
fn is_any(address: &str) -> bool {
    let socket = address.parse::<SocketAddr>();
    let any = socket.is_ok_and(|socket| socket.ip().is_unspecified());
    any || address.ends_with(":0")
}

const NOT_JOINING: &str = "`replace` is for a server that joins by `join`";

/// Addresses that a server that joins may be given.
const SEEDS_MAX: usize = 64;

/// Longest of the times that can be set: an hour.
const TIME_MS_MAX: usize = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        data = "data"
        listen = "127.0.0.1:7400"
        cluster = "cluster.toml"
        ca = "ca.pem"
        cert = "node.pem"
        key = "/keys/node.key"
    "#;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        let strip = |file: &Path| file.strip_prefix(folder.path()).unwrap_or(file).to_owned();
        Config::read(&path).map(|config| Config {
            data: strip(&config.data),
            cluster: config.cluster.as_deref().map(strip),
            ca: strip(&config.ca),
            cert: strip(&config.cert),
            key: strip(&config.key),
            ..config
        })
    }

    #[test]
    fn paths_are_taken_from_the_folder_of_the_file_and_the_rest_has_defaults() {
        let tls = TlsFiles {
            ca: "ca.pem".into(),
            cert: "node.pem".into(),
            key: "/keys/node.key".into(),
        };
        let expected = Config {
            cluster: Some("cluster.toml".into()),
            ..Config::new("data", "127.0.0.1:7400", tls)
        };
        assert_eq!(read(LEAST), Ok(expected));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (line, expected) in [
            ("cache = 5", "unknown field `cache`"),
            (
                "cache_bytes = 5",
                "cache_bytes is 5; it must be at least 1048576",
            ),
            (
                "[limits]\nreader_threads = 0",
                "limits.reader_threads is 0; it must be 1 to 64",
            ),
            ("[limits]\nthreads = 0", "unknown field `threads`"),
        ] {
            let error = read(&format!("{LEAST}\n{line}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_server_is_of_one_cluster_and_can_be_connected_to() {
        let alone = LEAST.replace("cluster = \"cluster.toml\"", "");
        for (text, expected) in [
            (format!("{LEAST}\nbootstrap = true"), "one of `cluster`"),
            (format!("{LEAST}\ncapacity = 2"), "are in the cluster file"),
            (
                format!("{LEAST}\nreplace = \"0000000000000001\""),
                "`replace` is for a server that joins",
            ),
            (alone.clone(), "one of `cluster`"),
            (
                format!("{alone}\njoin = [\"host\"]"),
                "`host` is not an address",
            ),
            (
                format!("{alone}\nbootstrap = true\ncapacity = 0"),
                "capacity must be at least 1",
            ),
            (
                format!("{alone}\nbootstrap = true\nadvertise = \"[::]:7400\""),
                "set `advertise`",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let joins = "join = [\"[2001:db8::1]:7400\", \"seed.example:7400\"]";
        let joining = read(&format!("{alone}\n{joins}\nzone = \"a\"")).unwrap();
        assert_eq!((joining.join.len(), joining.capacity), (2, 1));
    }
}
