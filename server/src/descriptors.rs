//! How many files and connections the process may have open.

use crate::config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the log, the listener, identity files, greetings and what libraries open.
const SPARE: usize = 64;

/// Lets this process open as many files as the system allows it to. Systems start programs with
/// room for a thousand or so, for the sake of old ones that cannot bear more, and a server has a
/// file open for each connection. Call it once, when a program starts; what cannot be raised stays.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (Some(now), Some(most)) = (current, maximum) else {
        // There is no limit, or there is one that no number says.
        return;
    };
    let raised = Rlimit {
        current: Some(most),
        maximum,
    };
    if now < most
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, now, most, "the limit of open files cannot be raised");
    }
}

/// Connections to accept: as configured, or fewer where the process may not open so many files.
/// Accepting more would starve the store of descriptors, and a store that cannot open a file fails.
pub(crate) fn connections(limits: &Limits) -> usize {
    let reserved = limits.open_files as usize + SPARE;
    let Some(most) = getrlimit(Resource::Nofile).current else {
        return limits.connections;
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_taken_than_files_can_be_open() {
        raise_open_files();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let of = |configured| {
            let limits = Limits {
                connections: configured,
                ..Limits::default()
            };
            connections(&limits)
        };
        assert_eq!(of(1), 1);
        if let Some(most) = current {
            assert!((of(usize::MAX) as u64) < most);
        }
    }
}
