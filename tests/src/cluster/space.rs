//! Network namespaces: networks of their own on this machine, with their own addresses and links.
//!
//! A thread enters a namespace and runs what is to happen there: the sockets that it opens are in
//! that network. Programs are started there by `ip netns exec`.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Environment variable that lets tests go without namespaces where there can be none: not as
/// root, or in a container that forbids them. Unset, such a test fails, so that none is left out
/// unnoticed.
pub const WITHOUT: &str = "ANNULET_TESTS_WITHOUT_NAMESPACES";

/// Each namespace's name begins with this, then the process that made it.
const PREFIX: &str = "annulet-test";

/// One namespace, removed when this is dropped.
#[derive(Debug)]
pub struct Space {
    name: Name,
    runtime: Handle,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    /// So many namespaces, or `None` where the environment allows to go without.
    ///
    /// # Panics
    /// If there can be none, and nothing allows to go without.
    pub fn make<const COUNT: usize>() -> Option<[Self; COUNT]> {
        remove_left_ones();
        let made: Result<Vec<_>, String> = (0..COUNT).map(|_| Self::new()).collect();
        match made {
            Ok(made) => Some(made.try_into().expect("so many were made")),
            Err(why) if std::env::var_os(WITHOUT).is_some() => {
                eprintln!("SKIPPED, as {WITHOUT} allows: no network namespace: {why}");
                None
            }
            Err(why) => panic!(
                "no network namespace can be made here: {why}. This test needs root and \
                 iproute2; to go without it, set {WITHOUT}=1"
            ),
        }
    }

    fn new() -> Result<Self, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", std::process::id());
        run(&["netns", "add", &name])?;
        let name = Name(name);
        run(&["-n", &name.0, "link", "set", "lo", "up"])?;
        let (stop, stopped) = oneshot::channel();
        let (ready, made) = mpsc::channel();
        let inside = name.0.clone();
        let thread = std::thread::Builder::new()
            .name(name.0.clone())
            .spawn(move || inhabit(&inside, &ready, stopped))
            .map_err(|error| error.to_string())?;
        let runtime = made.recv().map_err(|error| error.to_string())??;
        Ok(Self {
            name,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name.0
    }

    /// Does something inside. A client that connects inside stays there, whoever calls it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.runtime.spawn(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Runs `ip` on what is inside.
    pub fn ip(&self, args: &[&str]) {
        let all = [&["-n", self.name()], args].concat();
        run(&all).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Gives rules to the packet filter inside.
    pub fn filter(&self, rules: &str) {
        let mut filter = Command::new("ip")
            .args(["netns", "exec", self.name(), "nft", "--file", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("runs ip");
        let mut stdin = filter.stdin.take().expect("a pipe");
        stdin.write_all(rules.as_bytes()).expect("takes rules");
        drop(stdin);
        assert!(filter.wait().expect("ends").success(), "nft: {rules}");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, whoever waited for it has said so.
            let _ = thread.join();
        }
    }
}

/// The name of a namespace, which goes with it.
#[derive(Debug)]
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(why) = run(&["netns", "del", &self.0]) {
            eprintln!("{why}");
        }
    }
}

/// Enters a namespace and runs what others give it to run there, until told to stop.
fn inhabit(
    name: &str,
    ready: &mpsc::Sender<Result<Handle, String>>,
    stopped: oneshot::Receiver<()>,
) {
    let enter = || {
        let space = File::open(Path::new("/run/netns").join(name))?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
        // With one thread, all that it runs stays inside.
        Builder::new_current_thread().enable_all().build()
    };
    match enter() {
        Ok(runtime) => {
            let _ = ready.send(Ok(runtime.handle().clone()));
            let _ = runtime.block_on(stopped);
        }
        Err(error) => {
            let _ = ready.send(Err(format!("entering {name}: {error}")));
        }
    }
}

/// Removes namespaces of test processes that were killed before they could.
fn remove_left_ones() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let Ok(Output { stdout, .. }) = listed else {
        return;
    };
    for line in String::from_utf8_lossy(&stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').nth(1));
        let lives = |maker: &str| Path::new("/proc").join(maker).exists();
        if maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && !lives(maker)) {
            // Another test may be removing it at the same time.
            let _ = run(&["netns", "del", name]);
        }
    }
}

fn run(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), said.trim())),
    }
}
