//! What tests ask of the machine.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Lets this process open so many files, for tests that hold many connections.
///
/// # Panics
/// If the system does not allow it.
pub fn allow_open_files(count: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= count) {
        return;
    }
    let raised = Rlimit {
        current: Some(count),
        maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .unwrap_or_else(|error| panic!("{count} open files (`ulimit -Hn`): {error}"));
}

/// Memory that a process has in use at this moment, in bytes.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.expect("a process with memory") << 10
}

/// Lets this thread, and the threads and processes that it starts from now on, run on these cores
/// only.
///
/// # Panics
/// If this machine has no such core.
pub fn run_on(cores: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    cores.into_iter().for_each(|core| set.set(core));
    sched_setaffinity(None, &set).expect("cores of this machine");
}
