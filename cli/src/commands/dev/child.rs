//! One `annulet serve` process of a local cluster.

use super::layout::Node;
use crate::failure::Failure;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A server process that is running. It stops when this is dropped, and when this program dies,
/// however it dies: it watches the pipe that is its standard input.
pub(super) struct Server {
    pub(super) number: usize,
    pub(super) pid: u32,
    pub(super) address: String,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    /// The pipe; closing it is asking to stop.
    lifeline: Option<ChildStdin>,
    watcher: JoinHandle<()>,
}

/// What a server did.
#[derive(Debug)]
pub(super) enum Event {
    /// It listens.
    Listening,
    /// It has ended.
    Ended(Option<ExitStatus>),
}

impl Server {
    /// Starts a server that tells what it does through `events`, under its number.
    pub(super) fn start(node: Node, events: mpsc::Sender<(usize, Event)>) -> Result<Self, Failure> {
        let Node {
            number,
            address,
            config,
            log,
        } = node;
        let failed = |why: String| Failure::failed(format!("cannot start node {number}: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let log_file = File::create(&log).map_err(|error| Failure::unwritable(&log, &error))?;
        let mut child = Command::new(program)
            .args(["serve", "--exit-with-stdin", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            // Ctrl-C is for this program, which then stops the servers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let pid = child
            .id()
            .ok_or_else(|| failed("it has ended already".to_owned()))?;
        let lifeline = child.stdin.take();
        let watcher = tokio::spawn(watch(child, number, events));
        Ok(Self {
            number,
            pid,
            address,
            config,
            log,
            lifeline,
            watcher,
        })
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&mut self) {
        self.lifeline = None;
    }

    /// Waits until it has stopped, and kills it if that takes too long.
    pub(super) async fn stopped(mut self) {
        self.ask_to_stop();
        if timeout(STOP_MAX, &mut self.watcher).await.is_err() {
            // The process goes with the task that holds it.
            self.watcher.abort();
        }
    }

    /// The last lines of its log, to show why it ended.
    pub(super) fn last_words(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(mut child: Child, number: usize, events: mpsc::Sender<(usize, Event)>) {
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout.take(LINE_BYTES_MAX));
        let mut line = String::new();
        let read = lines.read_line(&mut line).await;
        if read.is_ok() && line.starts_with("listening ") {
            // Nobody is left to tell when this program stops.
            events.send((number, Event::Listening)).await.ok();
        }
    }
    let status = child.wait().await.ok();
    events.send((number, Event::Ended(status))).await.ok();
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
    Ok(lines
        .into_iter()
        .rev()
        .map(|line| format!("\n  {line}"))
        .collect())
}

const LINE_BYTES_MAX: u64 = 4096;
/// A server takes up to 10 seconds for the requests under way.
const STOP_MAX: Duration = Duration::from_secs(20);
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 8;
