//! Running the program, and a local cluster of it.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a run of the program came to.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).into_owned();
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "exit code {code}\n{}\n{}",
            begin(stdout),
            begin(stderr.as_bytes())
        )
    }
}

impl Done {
    /// Waits for a process to end, and takes what it wrote to the pipes that are still there.
    pub(crate) fn of(child: Child) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        Self {
            code: status.code().expect("it ends by itself"),
            stdout,
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap().trim_end()
    }

    /// Each line of standard output as JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let lines = self.text().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The only line of standard output as JSON.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        let objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.into_iter().next().unwrap()
    }

    /// The error that was reported with `--json`.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let report: Value = serde_json::from_str(self.stderr.trim()).expect(&self.stderr);
        report["error"].clone()
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A folder of a test, in which it runs the program; no profile of the user's is found from it.
pub(crate) struct Place {
    folder: TempDir,
    profile: Option<PathBuf>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            profile: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn use_profile(&mut self, path: &Path) {
        self.profile = Some(path.to_owned());
    }

    pub(crate) fn command<A: AsRef<std::ffi::OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_annulet"));
        command.args(args).current_dir(self.folder.path());
        command.env("HOME", self.folder.path());
        for name in ["ANNULET_PROFILE", "XDG_CONFIG_HOME", "RUST_LOG"] {
            command.env_remove(name);
        }
        if let Some(profile) = &self.profile {
            command.env("ANNULET_PROFILE", profile);
        }
        command
    }

    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(&self, args: &[A]) -> Done {
        self.run_with(args, b"")
    }

    pub(crate) fn run_with<A: AsRef<std::ffi::OsStr>>(&self, args: &[A], input: &[u8]) -> Done {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A program that refuses its arguments does not read what it is given.
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let done = Done::of(child);
        writer.join().unwrap();
        done
    }
}

/// A process that prints lines; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line; `None` if the process has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}"),
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(mut self) -> i32 {
        while self.line().is_some() {}
        let status = self.child.wait().unwrap();
        status.code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A local cluster, and a place whose commands go there.
pub(crate) struct Dev {
    pub(crate) place: Place,
    pub(crate) running: Option<Running>,
    /// Process id and address of each server.
    pub(crate) servers: Vec<(u32, String)>,
    pub(crate) profile: PathBuf,
}

impl Dev {
    /// A cluster in a temporary folder, with free ports.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--ephemeral"], Place::new())
    }

    pub(crate) fn start_with(args: &[&str], mut place: Place) -> Self {
        let all = [&["dev", "--port", "0"], args].concat();
        let running = Running::start(place.command(&all));
        let mut servers = Vec::new();
        let profile = loop {
            let line = running.line().expect("it starts");
            if let Some(profile) = line.strip_prefix("ready profile=") {
                break PathBuf::from(profile);
            }
            let mut fields = line.split([' ', '=']);
            let (pid, address) = (fields.nth(3).unwrap(), fields.nth(1).unwrap());
            servers.push((pid.parse().unwrap(), address.to_owned()));
        };
        place.use_profile(&profile);
        Self {
            place,
            running: Some(running),
            servers,
            profile,
        }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.place.run(args)
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> Place {
        let running = self.running.take().unwrap();
        running.signal("TERM");
        assert_eq!(running.ended(), 0);
        std::mem::replace(&mut self.place, Place::new())
    }

    pub(crate) fn wait_until_none_listens(&self) {
        for (_, address) in &self.servers {
            wait_until(|| !listens(address));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal("TERM");
            running.child_ended();
        }
    }
}

impl Running {
    /// Waits for its output to end; the process itself is seen to when this is dropped.
    fn child_ended(&self) {
        while let Ok(_line) = self.lines.recv_timeout(PATIENCE) {}
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(sent.unwrap().success(), "no process {pid}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a server is there shows by connecting"
)]
pub(crate) fn listens(address: &str) -> bool {
    let address = address.parse().unwrap();
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "takes a port away from the program"
)]
pub(crate) fn listen(address: &str) -> std::net::TcpListener {
    std::net::TcpListener::bind(address).unwrap()
}

/// Asks again and again until a condition holds, not longer than `PATIENCE`.
#[expect(
    clippy::disallowed_methods,
    reason = "a bounded wait for what other processes do"
)]
#[track_caller]
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < end, "it does not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
