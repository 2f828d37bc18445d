//! The requests of one HTTP/2 connection, worked on by the connection's own task.
//!
//! With a task for each request, the first answer that is ready wakes the connection, which writes
//! that one answer: a system call and a TLS record for each. Here all requests that can go on do,
//! and then the connection writes all their answers at once. Nothing is left behind when the
//! connection ends. A client that wants more than one core of a server opens another connection.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes requests as hyper begins them. Bounded by the streams of the connection.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<Task>>>);

impl Begun {
    fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, task: F) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::pin(task));
    }
}

/// The requests under way.
#[derive(Default)]
pub(super) struct Tasks {
    begun: Begun,
    running: FuturesUnordered<Task>,
}

impl Tasks {
    /// For the connection.
    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// Drives a connection and its requests until the connection ends.
    pub(super) async fn drive<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        poll_fn(|context| self.poll(connection.as_mut(), context)).await
    }

    fn poll<C: Future>(
        &mut self,
        mut connection: Pin<&mut C>,
        context: &mut Context<'_>,
    ) -> Poll<C::Output> {
        loop {
            // What is done is done; `Pending` means that the rest waits, or that it is the turn of
            // other connections.
            while let Poll::Ready(Some(())) = self.running.poll_next_unpin(context) {}
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            let begun = self.begun.take();
            if begun.is_empty() {
                return Poll::Pending;
            }
            self.running.extend(begun);
        }
    }
}
