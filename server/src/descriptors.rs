//! How many connections the process may have open.

use crate::config::Limits;

/// For the log, the listener, identity files, greetings and what libraries open.
const SPARE: usize = 64;

/// Connections to accept: as configured, or fewer where the process may not open so many files.
/// Accepting more would starve the store of descriptors, and a store that cannot open a file fails.
pub(crate) fn connections(limits: &Limits) -> usize {
    let reserved = limits.open_files as usize + SPARE;
    let Some(most) = open_files_max() else {
        return limits.connections;
    };
    let room = most.saturating_sub(reserved).max(1);
    if room < limits.connections {
        tracing::warn!(
            connections = room,
            open_files = most,
            "this process may open too few files for the connections configured; raise its limit \
             (ulimit -n), or lower limits.open_files"
        );
    }
    room.min(limits.connections)
}

/// The process's limit, where the system tells.
fn open_files_max() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    parse(&text)
}

fn parse(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(parse(text), Some(1024));
        assert_eq!(parse("Max open files unlimited unlimited files"), None);
        assert_eq!(parse(""), None);
    }
}
