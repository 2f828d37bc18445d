//! An operation that runs, and how it is given up.

use crate::values::Failure;
use annulet::facade::{self, Call};
use annulet::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Gives up the operation that it is handed to, now or whenever that is begun. One operation each.
#[derive(Default, uniffi::Object)]
pub(crate) struct Token {
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Running(Call),
    Cancelled,
}

#[uniffi::export]
impl Token {
    #[uniffi::constructor]
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn cancel(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Cancelled);
        if let State::Running(call) = before {
            call.cancel();
        }
    }
}

impl Token {
    /// Lets an operation run on the runtime that all clients of the process share: whoever polls
    /// this is one of Swift's threads, which only wait.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = annulet::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let task = {
            let mut state = self.lock();
            if matches!(*state, State::Cancelled) {
                let error = Error::new(ErrorKind::Closed, "the operation was given up");
                return Err(error.into());
            }
            let task = facade::spawn(operation)?;
            *state = State::Running(task.call());
            task
        };
        Ok(task.await?)
    }

    /// Nothing panics while it is held, and nothing tears it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
