//! Which ports a local cluster listens on.
#![expect(
    clippy::disallowed_methods,
    reason = "whether a port is free shows by listening on it; nothing is sent"
)]

use crate::failure::Failure;
use std::net::{Ipv4Addr, TcpListener};

/// Ports for as many servers as had one. `first` is the first of consecutive ones; 0 takes the
/// ones they had if they are free, else any free ones.
pub(super) fn choose(first: Option<u16>, had: &[u16]) -> Result<Vec<u16>, Failure> {
    let has_any = had.iter().all(|port| *port != 0);
    match first {
        None if has_any => all_free(had.to_vec()),
        None => consecutive(DEFAULT_FIRST, had.len()),
        Some(0) if has_any && had.iter().all(|port| is_free(*port)) => Ok(had.to_vec()),
        Some(0) => any(had.len()),
        Some(first) => consecutive(first, had.len()),
    }
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn consecutive(first: u16, count: usize) -> Result<Vec<u16>, Failure> {
    let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
    if ports.len() < count {
        return Err(Failure::usage(format!(
            "there are no {count} ports from {first} on; choose a lower --port"
        )));
    }
    all_free(ports)
}

fn all_free(ports: Vec<u16>) -> Result<Vec<u16>, Failure> {
    match ports.iter().find(|port| !is_free(**port)) {
        Some(port) => Err(Failure::failed(format!("port {port} is in use"))
            .advise("choose others with --port; --port 0 takes free ones")),
        None => Ok(ports),
    }
}

/// Free ports, all held at once, so that they differ.
fn any(count: usize) -> Result<Vec<u16>, Failure> {
    let held = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let held: Result<Vec<_>, _> = held.collect();
    let ports = held.and_then(|held| {
        let ports = held
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()));
        ports.collect()
    });
    ports.map_err(|error| Failure::failed(format!("the system gives no free ports: {error}")))
}

const DEFAULT_FIRST: u16 = 7400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_ports_in_use_are_named() {
        let ports = choose(Some(0), &[0, 0, 0]).unwrap();
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = choose(Some(port), &[0]).unwrap_err();
        assert!(
            failure
                .to_string()
                .contains(&format!("port {port} is in use")),
            "{failure}"
        );
        assert!(
            choose(None, &[port]).is_err(),
            "a cluster keeps its ports or says why not"
        );
        assert_ne!(choose(Some(0), &[port]).unwrap(), [port]);
        assert!(choose(Some(65_535), &[0, 0]).is_err());
    }

    #[test]
    fn any_port_keeps_those_of_the_last_time() {
        let ports = choose(Some(0), &[0, 0]).unwrap();
        assert_eq!(choose(Some(0), &ports).unwrap(), ports);
    }
}
