//! The calls and returns of the operations that are not placed yet, in the order of their times.
//!
//! Taken out and put back in the reverse order, as in Knuth's dancing links.

use crate::register::Move;

/// What a process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It called this move's operation.
    Call(usize),
    /// That operation returned.
    Return(usize),
    /// Nothing more.
    End,
}

/// Calls and returns of required moves.
pub(super) struct Calls {
    /// What happened at each node; the first node is the list's end and beginning.
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The nodes of each move's call and return; the list's end for moves that are not required.
    nodes: Vec<(usize, usize)>,
}

impl Calls {
    /// The calls and returns of all required moves. At the same time, calls come first, so that
    /// operations that only touch can have any order.
    pub(super) fn of(moves: &[Move]) -> Self {
        let mut timed = Vec::new();
        for (index, a_move) in moves.iter().enumerate().filter(|(_, m)| m.is_required) {
            timed.push((a_move.start_ns, false, Event::Call(index)));
            timed.push((a_move.end_ns, true, Event::Return(index)));
        }
        timed.sort_by_key(|(at_ns, is_return, _)| (*at_ns, *is_return));
        let events = timed.into_iter().map(|(_, _, event)| event);
        let events: Vec<Event> = [Event::End].into_iter().chain(events).collect();
        let mut nodes = vec![(END, END); moves.len()];
        for (node, event) in events.iter().enumerate() {
            match *event {
                Event::Call(index) => nodes[index].0 = node,
                Event::Return(index) => nodes[index].1 = node,
                Event::End => {}
            }
        }
        let count = events.len();
        Self {
            events,
            next: (0..count).map(|node| (node + 1) % count).collect(),
            previous: (0..count).map(|node| (node + count - 1) % count).collect(),
            nodes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next[END] == END
    }

    /// The first event.
    pub(super) fn first(&self) -> Event {
        self.events[self.next[END]]
    }

    /// The event after a move's call, also if that was just taken out.
    pub(super) fn after(&self, called: usize) -> Event {
        self.events[self.next[self.nodes[called].0]]
    }

    /// Takes out a move's call and return.
    pub(super) fn take_out(&mut self, index: usize) {
        // The return first: what comes after the call must be something that stays.
        let (call, ret) = self.nodes[index];
        for node in [ret, call] {
            self.next[self.previous[node]] = self.next[node];
            self.previous[self.next[node]] = self.previous[node];
        }
    }

    /// Puts back the move that was taken out last.
    pub(super) fn put_back(&mut self, index: usize) {
        let (call, ret) = self.nodes[index];
        for node in [call, ret] {
            self.next[self.previous[node]] = node;
            self.previous[self.next[node]] = node;
        }
    }
}

const END: usize = 0;
