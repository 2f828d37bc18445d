//! Requests that no honest client sends, and the answers that they must get.

use super::server::{Return, State};
use super::world::{Event, GROUP, NARROW, SIBLINGS, STRONG, VALUE_BYTES_MAX, World};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::clock::Stamp;
use annulet_protocol::codec;
use annulet_protocol::ids::{ClusterId, Incarnation, OpId};
use annulet_protocol::limits::{KEY_BYTES_MAX, OPERATIONS_MAX};
use annulet_protocol::message::{
    Answer, FailureKind, Operation, Read, RefusalKind, Request, Source, Write,
};
use annulet_protocol::record::{Origin, Record};
use annulet_protocol::register::message::Accept;
use annulet_protocol::register::{Change, Condition, Register, Turn};
use annulet_ring::owners::Owners;
use bytes::Bytes;
use rand::Rng;

const GAP_US: u64 = 20_000;

/// A request that was sent, and what must come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    expected: Expected,
    /// The server's epoch when it was sent.
    epoch: u64,
    /// Whether the server had still to empty what it had gained.
    unready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Refusal(RefusalKind),
    Failure(FailureKind),
}

impl World {
    pub(crate) fn send_probe(&mut self) {
        if self.quiet {
            return;
        }
        self.schedule(GAP_US, Event::Probes);
        let server = self.rng.random_range(0..self.servers.len());
        if self.servers[server].state != State::Up {
            return;
        }
        let Some((bytes, expected)) = self.draw_probe(server) else {
            return;
        };
        let epoch = self.servers[server].view.epoch;
        let from = Return::Probe(self.probes.len());
        let unready = !self.servers[server].unready.is_empty();
        self.probes.push(Probe {
            expected,
            epoch,
            unready,
        });
        self.request_arrives(server, from, &bytes);
    }

    fn draw_probe(&mut self, server: usize) -> Option<(Bytes, Expected)> {
        let view = std::sync::Arc::clone(&self.servers[server].view);
        let mut epoch = view.epoch;
        let drawn = self.rng.random_range(0..14);
        let now_ms = self.server_ms(server);
        let read =
            |bucket, key: &[u8]| Operation::Read(Read::new(bucket, Bytes::copy_from_slice(key)));
        let write = |stamp_ms, bucket, key: &[u8], bytes| self.forge(stamp_ms, bucket, key, bytes);
        let own = key_owned(&view, self.servers[server].replica.node, GROUP, true);
        let of_siblings = key_owned(&view, self.servers[server].replica.node, SIBLINGS, true);
        let of_strong = key_owned(&view, self.servers[server].replica.node, STRONG[0], true);
        let mut operations = Vec::new();
        let (operation, kind) = match drawn {
            0 => (Operation::Unknown, RefusalKind::Unsupported),
            1 => (
                write(now_ms, SIBLINGS, &of_siblings?, 3),
                RefusalKind::WrongMode,
            ),
            2 => (read(GROUP, b""), RefusalKind::TooLarge),
            3 => (read(GROUP, &[1; KEY_BYTES_MAX + 1]), RefusalKind::TooLarge),
            4 => {
                let bytes = VALUE_BYTES_MAX as usize + 1;
                (write(now_ms, GROUP, &own?, bytes), RefusalKind::TooLarge)
            }
            5 => {
                let mut bad = write(now_ms, GROUP, &own?, 3);
                if let Operation::Write(write) = &mut bad {
                    write.record.value = Bytes::from_static(b"bad");
                }
                (bad, RefusalKind::BadChecksum)
            }
            6 => {
                let foreign = key_owned(&view, self.servers[server].replica.node, NARROW, false)?;
                (read(NARROW, &foreign), RefusalKind::NotOwner)
            }
            7 => (read(999, b"k"), RefusalKind::UnknownBucket),
            8 => {
                let partition = view.hash(GROUP, b"k").partition(view.table.partitions);
                epoch = view.table.lists_epoch(partition) - 1;
                (read(GROUP, b"k"), RefusalKind::StaleEpoch)
            }
            9 => {
                epoch += 100;
                (read(GROUP, b"k"), RefusalKind::Behind)
            }
            10 => (
                write(now_ms + 3_600_000, GROUP, &own?, 3),
                RefusalKind::SkewedClock,
            ),
            11 => {
                let key = of_strong?;
                operations.push(self.forge_round(now_ms, &key, 0));
                (
                    self.forge_round(now_ms, &key, 1),
                    RefusalKind::Contradiction,
                )
            }
            _ => return Some(self.malformed_probe(view.cluster, epoch)),
        };
        operations.push(operation);
        let request = Request {
            cluster: view.cluster,
            epoch,
            budget_ms: 10_000,
            operations,
        };
        Some((codec::encode(&request).into(), Expected::Refusal(kind)))
    }

    fn malformed_probe(&mut self, mut cluster: ClusterId, epoch: u64) -> (Bytes, Expected) {
        let mut operations = 1;
        let kind = match self.rng.random_range(0..3) {
            0 => {
                let noise = (0..40).map(|_| self.rng.random::<u8>());
                return (
                    noise.collect(),
                    Expected::Failure(FailureKind::InvalidInput),
                );
            }
            1 => {
                cluster.0[0] ^= 1;
                FailureKind::WrongCluster
            }
            _ => {
                operations = OPERATIONS_MAX + 1;
                FailureKind::InvalidInput
            }
        };
        let request = Request {
            cluster,
            epoch,
            budget_ms: 10_000,
            operations: vec![Operation::Unknown; operations],
        };
        (codec::encode(&request).into(), Expected::Failure(kind))
    }

    /// A sound first-hand write of this stamp.
    fn forge(&self, stamp_ms: u64, bucket: u32, key: &[u8], bytes: usize) -> Operation {
        let op = OpId {
            client: Incarnation([9; 16]),
            sequence: self.probes.len() as u64,
            first_sent_ms: stamp_ms,
        };
        let origin = Origin {
            stamp: Stamp::at(stamp_ms),
            op,
        };
        let value = Some(Bytes::from(vec![7; bytes]));
        Operation::Write(Write {
            bucket,
            key: Bytes::copy_from_slice(key),
            source: Source::FirstHand,
            record: Record::seal(bucket, key, origin, value, None),
            gone: false,
        })
    }

    /// What a proposer asks to accept that uses a ballot for one thing and another.
    fn forge_round(&self, now_ms: u64, key: &[u8], which: u64) -> Operation {
        let client = Incarnation([9; 16]);
        let number = self.probes.len() as u64;
        let turn = Turn {
            ballot: Ballot {
                number: Stamp::at(now_ms).0.saturating_add(number),
                proposer: client,
            },
            op: OpId {
                client,
                sequence: 2 * number + which,
                first_sent_ms: now_ms,
            },
            since: None,
            now_ms,
        };
        let delete = Change::Delete {
            condition: Condition::Always,
        };
        let at = (STRONG[0], key);
        let changed = Register::unwritten(at.0, at.1).change(at, &turn, &delete);
        Operation::Accept(Box::new(Accept {
            bucket: at.0,
            key: Bytes::copy_from_slice(key),
            ballot: turn.ballot,
            next: None,
            head: changed.register.head,
            log: changed.register.log,
            value: Bytes::new(),
            held: None,
        }))
    }

    pub(crate) fn probe_answered(
        &mut self,
        server: usize,
        probe: usize,
        bytes: Result<Bytes, Bytes>,
    ) {
        let Probe {
            expected,
            epoch,
            unready,
        } = self.probes[probe];
        let got = match bytes {
            Ok(bytes) => {
                let reply = codec::decode_reply(&bytes).expect("a server's reply is well-formed");
                if reply.epoch != epoch {
                    // Another view came between the request and its answer.
                    return;
                }
                match reply.results.into_iter().next_back() {
                    Some(Answer::Refused(refusal)) => Expected::Refusal(refusal.kind),
                    // The server answers as a newer version would; or its clock was set back, and
                    // it has promised more.
                    Some(Answer::Unknown | Answer::Outbid(_)) => return,
                    other => {
                        let why = format!("s{server} answered {other:?} instead of {expected:?}");
                        return self.oracle.fail("probe", why);
                    }
                }
            }
            Err(bytes) => {
                let failure = codec::decode_failure(&bytes).expect("a well-formed failure");
                self.coverage.hit("failure", failure.kind.as_str());
                Expected::Failure(failure.kind)
            }
        };
        if let Expected::Refusal(kind) = got {
            self.coverage.hit("refusal", kind.as_str());
        }
        // A probe that leaves something behind may find that damaged later.
        let damaged = got == Expected::Refusal(RefusalKind::Damaged);
        if damaged && expected == Expected::Refusal(RefusalKind::Contradiction) {
            return;
        }
        if unready && got == Expected::Refusal(RefusalKind::Behind) {
            return;
        }
        let busy = [
            Expected::Refusal(RefusalKind::Overloaded),
            Expected::Refusal(RefusalKind::Stopping),
            Expected::Refusal(RefusalKind::TooLate),
            Expected::Refusal(RefusalKind::Other),
            Expected::Refusal(RefusalKind::SkewedClock),
            Expected::Failure(FailureKind::Overloaded),
        ];
        if got != expected && !busy.contains(&got) {
            let why = format!("s{server} answered {got:?} instead of {expected:?}");
            self.oracle.fail("probe", why);
        }
    }
}

/// A key of a bucket that a node owns, or does not own, if there is one.
fn key_owned(
    view: &annulet_protocol::view::View,
    node: annulet_protocol::ids::NodeId,
    bucket: u32,
    own: bool,
) -> Option<Vec<u8>> {
    let bucket = view.bucket(bucket)?;
    let keys = (0..40u8).map(|n| vec![b'p', n]);
    let owns =
        |key: &Vec<u8>| Owners::of(view, bucket, view.hash(bucket.number, key)).contains(node);
    keys.into_iter().find(|key| owns(key) == own)
}
