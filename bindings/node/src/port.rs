//! Operations that run, and how their results reach the event loop of one thread: threads of the
//! core push them to a list and wake the loop, which takes all that are there at once.

use crate::values::{Show, failed};
use annulet::facade::{self, Call, Completions};
use napi::bindgen_prelude::*;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use slab::Slab;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What came of an operation, still to be made a value of JavaScript.
type Answer = Box<dyn for<'env> FnOnce(&'env Env) -> Result<Unknown<'env>> + Send>;

struct Completed {
    /// The operation's number.
    id: u32,
    result: annulet::Result<Answer>,
}

/// Where the results for one thread arrive.
#[napi]
pub struct Port {
    /// Operations by their numbers, to be given up; none where one could not be begun.
    running: Mutex<Slab<Option<Call>>>,
    completions: Arc<Completions<Completed>>,
}

#[napi]
impl Port {
    /// `deliver` is called, by the event loop, whenever there are results to be taken. It does not
    /// keep the loop alive.
    #[napi(constructor)]
    pub fn new(deliver: Function<(), ()>) -> Result<Self> {
        let deliver = deliver
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .weak::<true>()
            .build()?;
        let wake = move || {
            // If the loop has ended nobody waits.
            deliver.call((), ThreadsafeFunctionCallMode::NonBlocking);
        };
        Ok(Self {
            running: Mutex::default(),
            completions: Arc::new(Completions::new(wake)),
        })
    }

    /// Gives an operation up, unless it is over.
    #[napi]
    pub fn cancel(&self, id: u32) {
        if let Some(Some(call)) = self.running().get(id as usize) {
            call.cancel();
        }
    }

    /// All results that are there, each as three elements: the operation's number, whether it went
    /// well, and what it gave or what is wrong. Their numbers are free again.
    #[napi]
    pub fn take<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
        let mut completed = Vec::new();
        self.completions.take(&mut completed);
        let mut taken = Vec::with_capacity(3 * completed.len());
        for Completed { id, result } in completed {
            self.running().try_remove(id as usize);
            let shown = result.and_then(|answer| answer(env).map_err(unshown));
            // One result that cannot be shown must not keep the others from their callers.
            let (is_done, shown) = match shown {
                Ok(shown) => (true, shown),
                Err(error) => (false, failed(env, &error)?),
            };
            taken.push(id.into_unknown(env)?);
            taken.push(is_done.into_unknown(env)?);
            taken.push(shown);
        }
        Ok(taken)
    }
}

fn unshown(error: Error) -> annulet::Error {
    let why = format!("a result that cannot be made a value of JavaScript: {error}");
    annulet::Error::new(annulet::ErrorKind::Internal, why)
}

impl Port {
    /// Lets an operation run; its number.
    pub(crate) fn begin<T: Show>(
        &self,
        work: impl Future<Output = annulet::Result<T>> + Send + 'static,
    ) -> u32 {
        let place = self.running().insert(None);
        // As many operations as have numbers do not fit into memory.
        let id = place as u32;
        let work = async move {
            let done = work.await?;
            let answer: Answer = Box::new(move |env| done.show(env));
            Ok(answer)
        };
        let completions = Arc::clone(&self.completions);
        let begun = facade::begin(work, move |result| {
            completions.push(Completed { id, result })
        });
        match begun {
            // It may be over already, but its number is free only once its result was taken, by
            // this very thread.
            Ok(call) => self.running()[place] = Some(call),
            Err(error) => {
                let result = Err(error);
                self.completions.push(Completed { id, result });
            }
        }
        id
    }

    /// Nothing panics while it is held, and nothing tears the list.
    fn running(&self) -> MutexGuard<'_, Slab<Option<Call>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
