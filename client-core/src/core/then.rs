//! Two operations of which the second begins with what the first found: a read before a write, a
//! minting before it is sent on.

use super::client::{Core, Now};
use super::{Attempt, Coordinator, Effect, Effects, Response};
use crate::error::Result;
use annulet_protocol::ids::NodeId;
use annulet_protocol::view::View;
use std::fmt::Debug;
use std::sync::Arc;

/// Messages of the second part are named from this round on.
pub(crate) const ROUND: u16 = 1 << 15;

/// What joins the two parts.
pub trait Link: Debug {
    /// The first part.
    type First: Coordinator;
    /// The second part.
    type Second: Coordinator;
    /// What both say together.
    type Done;

    /// The first part has ended. `view`: the newest that came while it was under way.
    fn join(
        &mut self,
        core: &mut Core,
        now: Now,
        view: Option<&Arc<View>>,
        first: Result<<Self::First as Coordinator>::Done>,
    ) -> Joined<Self>;

    /// The second part has ended.
    fn end(&mut self, second: Result<<Self::Second as Coordinator>::Done>) -> Result<Self::Done>;
}

/// How it goes on after the first part.
pub enum Joined<L: Link + ?Sized> {
    /// With this result, and nothing more.
    Over(Result<L::Done>),
    /// With the second part, which has been started.
    Second(L::Second, Effects<<L::Second as Coordinator>::Done>),
    /// With this result, and the second part in the background.
    Both(
        Result<L::Done>,
        L::Second,
        Effects<<L::Second as Coordinator>::Done>,
    ),
}

/// See the module.
#[derive(Debug)]
pub struct Then<L: Link> {
    /// What joins them.
    pub link: L,
    pub(crate) first: L::First,
    pub(crate) second: Option<L::Second>,
    view: Option<Arc<View>>,
    completed: bool,
}

impl<L: Link> Then<L> {
    /// Both parts, of which the first is still to be started.
    pub fn new(link: L, first: L::First) -> Self {
        Self {
            link,
            first,
            second: None,
            view: None,
            completed: false,
        }
    }

    /// Takes what the first part wants done; where it is done, the second begins.
    fn after_first(
        &mut self,
        core: &mut Core,
        now: Now,
        effects: Effects<<L::First as Coordinator>::Done>,
    ) -> Effects<L::Done> {
        let mut out = Effects::new();
        for effect in effects {
            match effect {
                Effect::Send(send) => out.push(Effect::Send(send)),
                Effect::Cancel(node, attempt) => out.push(Effect::Cancel(node, attempt)),
                Effect::NeedView(epoch) => out.push(Effect::NeedView(epoch)),
                Effect::Complete(result) => {
                    match self.link.join(core, now, self.view.as_ref(), result) {
                        Joined::Over(result) => self.complete(result, &mut out),
                        Joined::Second(second, effects) => {
                            self.second = Some(second);
                            out.extend(self.after_second(effects));
                        }
                        Joined::Both(result, second, effects) => {
                            self.complete(result, &mut out);
                            self.second = Some(second);
                            out.extend(self.after_second(effects));
                        }
                    }
                }
            }
        }
        out
    }

    /// Takes what the second part wants done.
    fn after_second(
        &mut self,
        effects: Effects<<L::Second as Coordinator>::Done>,
    ) -> Effects<L::Done> {
        let mut out = Effects::new();
        for effect in effects {
            match effect {
                Effect::Send(send) => out.push(Effect::Send(send)),
                Effect::Cancel(node, attempt) => out.push(Effect::Cancel(node, attempt)),
                Effect::NeedView(epoch) => out.push(Effect::NeedView(epoch)),
                Effect::Complete(result) => {
                    let result = self.link.end(result);
                    self.complete(result, &mut out);
                }
            }
        }
        out
    }

    fn complete(&mut self, result: Result<L::Done>, out: &mut Effects<L::Done>) {
        if !std::mem::replace(&mut self.completed, true) {
            out.push(Effect::Complete(result));
        }
    }
}

impl<L: Link> Coordinator for Then<L> {
    type Done = L::Done;

    fn start(&mut self, core: &mut Core, now: Now) -> Effects<L::Done> {
        let effects = self.first.start(core, now);
        self.after_first(core, now, effects)
    }

    fn handle_response(
        &mut self,
        core: &mut Core,
        now: Now,
        from: (NodeId, Attempt),
        epoch: Option<u64>,
        response: Response,
    ) -> Effects<L::Done> {
        match &mut self.second {
            Some(second) if from.1.round >= ROUND => {
                let effects = second.handle_response(core, now, from, epoch, response);
                self.after_second(effects)
            }
            Some(_) | None => {
                let effects = self.first.handle_response(core, now, from, epoch, response);
                self.after_first(core, now, effects)
            }
        }
    }

    fn handle_view(&mut self, core: &mut Core, now: Now, view: &Arc<View>) -> Effects<L::Done> {
        self.view = Some(Arc::clone(view));
        let effects = self.first.handle_view(core, now, view);
        let mut out = self.after_first(core, now, effects);
        if let Some(second) = &mut self.second {
            let effects = second.handle_view(core, now, view);
            out.extend(self.after_second(effects));
        }
        out
    }

    fn handle_timer(&mut self, core: &mut Core, now: Now) -> Effects<L::Done> {
        let mut out = Effects::new();
        if !self.first.is_finished() {
            let effects = self.first.handle_timer(core, now);
            out.extend(self.after_first(core, now, effects));
        }
        if let Some(second) = self.second.as_mut().filter(|second| !second.is_finished()) {
            let effects = second.handle_timer(core, now);
            out.extend(self.after_second(effects));
        }
        out
    }

    fn next_wake_ms(&self) -> Option<u64> {
        let second = self.second.as_ref().and_then(Coordinator::next_wake_ms);
        [self.first.next_wake_ms(), second]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        let second = self.second.as_ref().is_none_or(Coordinator::is_finished);
        self.completed && self.first.is_finished() && second
    }

    fn is_idle(&self) -> bool {
        let second = self.second.as_ref().is_none_or(Coordinator::is_idle);
        self.first.is_idle() && second
    }

    fn awaits(&self, node: NodeId, attempt: Attempt) -> bool {
        match &self.second {
            Some(second) if attempt.round >= ROUND => second.awaits(node, attempt),
            Some(_) | None => self.first.awaits(node, attempt),
        }
    }

    fn hurry(&mut self, core: &mut Core, now: Now) -> Effects<L::Done> {
        let effects = self.first.hurry(core, now);
        let mut out = self.after_first(core, now, effects);
        if let Some(second) = &mut self.second {
            let effects = second.hurry(core, now);
            out.extend(self.after_second(effects));
        }
        out
    }

    fn cancel(&mut self) {
        self.completed = true;
        self.first.cancel();
        if let Some(second) = &mut self.second {
            second.cancel();
        }
    }
}
