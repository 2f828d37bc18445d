//! What a client's shell does with messages: it gathers them into calls, gives up waiting for
//! some, hands in what comes back, and fetches views.

use super::client::{Call, TOGETHER_MAX};
use super::network::Link;
use super::scenario::Micros;
use super::server::{Return, State};
use super::world::{Event, World};
use annulet::core::client::Heard;
use annulet::core::policy::throttle;
use annulet::core::policy::waiting::Class;
use annulet::core::{Attempt, Send, SendFailure};
use annulet::{Error, ErrorKind};
use annulet_protocol::codec;
use annulet_protocol::ids::NodeId;
use annulet_protocol::message::{Answer, Hint, Operation, Request, Write};
use bytes::Bytes;
use rand::Rng;
use std::sync::Arc;

impl World {
    /// Sends what has gathered.
    pub(crate) fn client_sends(&mut self, client: usize, life: u32) {
        if self.clients[client].life != life {
            return;
        }
        self.clients[client].sending = false;
        let outbox = std::mem::take(&mut self.clients[client].outbox);
        for ((node, epoch), mut messages) in outbox {
            messages.retain(|(op, send)| {
                let running = self.clients[client].operations.get(op);
                running.is_none_or(|running| running.machine.awaits(send.node, send.attempt))
            });
            while !messages.is_empty() {
                let rest = messages.split_off(messages.len().min(TOGETHER_MAX));
                self.send_call(client, node, epoch, messages);
                messages = rest;
            }
        }
    }

    /// The answer to a message is of no use any more: it is not sent if it has not been yet.
    pub(crate) fn cancel_message(&mut self, client: usize, op: u64, node: NodeId, named: Attempt) {
        let at = &mut self.clients[client];
        let message = |(of, send): &(u64, Send)| *of == op && send.attempt == named;
        let waiting = at.outbox.iter_mut().filter(|((to, _), _)| *to == node);
        let mut unsent = false;
        for (_, messages) in waiting {
            unsent |= messages.iter().any(message);
            messages.retain(|sent| !message(sent));
        }
        let name = if unsent {
            "cancelled_unsent"
        } else {
            "cancelled"
        };
        self.coverage.hit("path", name);
    }

    fn send_call(&mut self, client: usize, node: NodeId, epoch: u64, sends: Vec<(u64, Send)>) {
        if sends.len() > 1 {
            self.coverage.hit("network", "batch");
        }
        let server = self.server_of(node);
        let messages = sends
            .iter()
            .map(|(op, s)| (*op, s.node, s.attempt))
            .collect();
        let budget_ms = sends.iter().map(|(_, s)| s.budget_ms).min().unwrap_or(0);
        let request = Request {
            cluster: self.clients[client].core.view().cluster,
            epoch,
            budget_ms,
            operations: sends.into_iter().map(|(_, s)| s.operation).collect(),
        };
        let is_read = request.operations.iter().all(|operation| {
            matches!(
                operation,
                Operation::Read(_) | Operation::ReadRegister(_) | Operation::Scan(_)
            )
        });
        let call = self.next_number();
        let life = self.clients[client].life;
        self.clients[client].calls.insert(
            call,
            Call {
                server,
                sent_us: self.now_us,
                messages,
                is_read,
                open: true,
            },
        );
        if is_read {
            let reads = request.operations.len() as u64;
            self.clients[client].core.peers.note_sent(node, reads);
        }
        let patience_ms = self.scenario.patience_ms.min(u64::from(budget_ms) + 1);
        self.schedule(patience_ms * 1_000, Event::CallFails { client, life, call });
        let link = Link::Request(client, server);
        let unreachable = self.network.is_cut(link) && self.rng.random_bool(0.5)
            || matches!(self.servers[server].state, State::Down | State::Perished);
        if unreachable {
            self.note_unreachable(server);
            let delay_us = self.rng.random_range(100..3_000);
            return self.schedule(delay_us, Event::CallNotSent { client, life, call });
        }
        let bytes = Bytes::from(codec::encode(&request));
        let fate = self.network.fate(link);
        match fate.copies.len() {
            0 => self.coverage.hit("network", "request_lost"),
            1 => {}
            _ => self.note_doubled(&request, (client, call)),
        }
        if fate.spike {
            self.coverage.hit("network", "delay_spike");
        }
        for delay_us in fate.copies {
            let (from, bytes) = (Return::Client(client, life, call), bytes.clone());
            let event = Event::RequestArrives {
                server,
                from,
                bytes,
            };
            self.schedule(delay_us, event);
        }
    }

    fn note_doubled(&mut self, request: &Request, (client, call): (usize, u64)) {
        self.coverage.hit("network", "request_duplicated");
        let messages = &self.clients[client].calls[&call].messages;
        for (operation, (op, ..)) in request.operations.iter().zip(messages) {
            if let Operation::Accept(_) = operation {
                self.histories.doubled(*op);
            }
            if let Operation::Write(Write { record, .. }) | Operation::Hint(Hint { record, .. }) =
                operation
            {
                let head = &record.head;
                self.oracle.doubled(head.version);
                self.oracle.touches.doubled(head.version, head.expiry);
            }
            if let Operation::Touch(touch) = operation {
                let touches = &mut self.oracle.touches;
                touches.doubled(touch.version, Some(touch.expiry));
            }
            if let Operation::Mint(mint) = operation {
                self.oracle.causal.doubled(&mint.write.value);
            }
        }
    }

    /// A call has no answer. `sent`: it may have arrived.
    pub(crate) fn call_fails(&mut self, client: usize, life: u32, call: u64, sent: bool) {
        let at = &mut self.clients[client];
        let Some(open) = at
            .calls
            .get_mut(&call)
            .filter(|c| at.life == life && c.open)
        else {
            return;
        };
        open.open = false;
        let messages = open.messages.clone();
        let (node, is_read) = (messages[0].1, open.is_read);
        if is_read {
            at.core.peers.note_over(node, messages.len() as u64);
        }
        at.core.note_failure(node);
        let name = if sent { "unanswered" } else { "not_sent" };
        self.coverage.hit("network", name);
        for (op, node, attempt) in messages {
            let failure = match sent {
                true => SendFailure::Unanswered("no answer".into()),
                false => SendFailure::NotSent("connection refused".into()),
            };
            self.respond(client, op, (node, attempt), None, Err(failure));
        }
        self.settle(client);
    }

    pub(crate) fn reply_arrives(
        &mut self,
        (client, life, call): (usize, u32, u64),
        bytes: Result<Bytes, Bytes>,
        sent_us: Micros,
    ) {
        let now = self.client_now(client);
        let at = &mut self.clients[client];
        let Some(known) = at.calls.get_mut(&call).filter(|_| at.life == life) else {
            return;
        };
        let in_time = std::mem::take(&mut known.open);
        let (messages, server) = (known.messages.clone(), known.server);
        let known_read = known.is_read;
        let took_us = self.now_us - known.sent_us;
        if !in_time {
            self.coverage.hit("network", "late_reply");
        }
        let reply = match bytes {
            Err(bytes) => return self.call_rejected(client, messages, &bytes),
            Ok(bytes) => codec::decode_reply(&bytes).expect("a server's reply is well-formed"),
        };
        if in_time {
            if known_read {
                let reads = messages.len() as u64;
                self.clients[client].core.peers.note_over(reply.node, reads);
            }
            let heard = Heard {
                round_trip_us: took_us,
                time_ms: reply.time_ms,
                load: reply.load,
                is_read: known_read,
            };
            let core = &mut self.clients[client].core;
            core.note_reply(reply.node, now, heard);
            let class = match known_read {
                true => Class::Read,
                false => Class::Write,
            };
            let refused = throttle::refused(&reply.results);
            let taken = reply.results.len() as u64 - refused;
            core.peers
                .note_taken((reply.node, class), (taken, refused), now.mono_ms);
            // The core takes the way back for half of the whole.
            let off_us = (self.now_us - sent_us).abs_diff(took_us / 2);
            let skew_ms = self.servers[server].skew_ms.unsigned_abs();
            self.oracle.clock_sample(skew_ms + off_us / 1_000 + 2);
        }
        for ((op, node, attempt), answer) in messages.into_iter().zip(reply.results) {
            self.note_answer(&answer);
            self.respond(client, op, (node, attempt), Some(reply.epoch), Ok(answer));
        }
        if reply.epoch > self.clients[client].core.view().ordinal() && self.rng.random_bool(0.2) {
            self.want_view(client, reply.epoch);
        }
        self.settle(client);
    }

    fn note_answer(&mut self, answer: &Answer) {
        let name = match answer {
            Answer::Found(_) => "found",
            Answer::FoundHead(_) => "found_head",
            Answer::Absent(_) => "absent",
            Answer::Written(written) if written.superseded.is_some() => "superseded",
            Answer::Written(_) => "written",
            Answer::Siblings(found) if found.bare => "bare_siblings",
            Answer::Siblings(_) => "siblings",
            Answer::Minted(_) => "minted",
            Answer::Lacking(_) => "lacking",
            Answer::Page(_) => "page",
            Answer::Copied(_) => "copied",
            Answer::Promise(_) => "promise",
            Answer::Accepted(_) => "accepted",
            Answer::Outbid(_) => "outbid",
            Answer::Refused(refusal) => {
                return self.coverage.hit("refusal", refusal.kind.as_str());
            }
            Answer::Unknown => "unknown",
        };
        self.coverage.hit("answer", name);
    }

    fn call_rejected(
        &mut self,
        client: usize,
        messages: Vec<(u64, NodeId, Attempt)>,
        bytes: &Bytes,
    ) {
        let failure = codec::decode_failure(bytes).expect("a server's failure is well-formed");
        self.coverage.hit("failure", failure.kind.as_str());
        for (op, node, attempt) in messages {
            let error = Error::new(ErrorKind::Overloaded, failure.message.clone());
            let rejected = SendFailure::Rejected(error, failure.retry_after_ms);
            self.respond(client, op, (node, attempt), None, Err(rejected));
        }
        self.settle(client);
    }

    pub(crate) fn want_view(&mut self, client: usize, epoch: u64) {
        let at = &mut self.clients[client];
        at.wanted_epoch = at.wanted_epoch.max(epoch);
        if !at.fetching {
            at.fetching = true;
            let life = at.life;
            let delay_us = self.rng.random_range(0..2_000);
            self.schedule(delay_us, Event::ClientFetches { client, life });
        }
    }

    /// Asks any server for its view.
    pub(crate) fn client_fetches(&mut self, client: usize, life: u32) {
        if self.clients[client].life != life {
            return;
        }
        let server = self.rng.random_range(0..self.servers.len());
        let there = self.network.fate(Link::Request(client, server));
        let back = self.network.fate(Link::Reply(client, server));
        let up = self.servers[server].state == State::Up;
        match (there.copies.first(), back.copies.first()) {
            (Some(there), Some(back)) if up => {
                let bytes = codec::encode(self.servers[server].view.as_ref()).into();
                let event = Event::ViewArrives {
                    client,
                    life,
                    bytes,
                };
                self.schedule(there + back, event);
            }
            _ => self.schedule(30_000, Event::ClientFetches { client, life }),
        }
    }

    pub(crate) fn view_arrives(&mut self, client: usize, life: u32, bytes: &Bytes) {
        if self.clients[client].life != life {
            return;
        }
        let view = codec::decode_view(bytes).expect("a server's view is sound");
        let view = Arc::new(view);
        let at = &mut self.clients[client];
        if view.ordinal() < at.wanted_epoch {
            self.coverage.hit("view", "fetched_stale");
            self.schedule(10_000, Event::ClientFetches { client, life });
        } else {
            at.fetching = false;
        }
        if self.clients[client].core.install(Arc::clone(&view)) {
            self.coverage.hit("view", "fetched");
        }
        self.tell_view(client, &view);
    }
}
