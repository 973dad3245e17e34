//! A named thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

/// A running thread. Dropping it lets the thread run on; [`Worker::join`] waits for its end.
#[derive(Debug)]
pub struct Worker {
    handle: JoinHandle<Result<(), Panicked>>,
}

/// A thread ended by a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// What it said.
    pub message: String,
}

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a thread panicked: {}", self.message)
    }
}

impl std::error::Error for Panicked {}

/// Starts a thread under a name that the system shows (at most 15 bytes of it on Linux).
///
/// A panic in `body` is caught and given to `on_panic`, in the thread that panicked, before it ends. Errors: what the system
/// says if it gives no thread.
pub fn spawn(
    name: &str,
    on_panic: impl FnOnce(String) + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Worker> {
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // What `body` shared is poisoned by `on_panic`'s owner, so nobody relies on it being whole.
        catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
            let message = message_of(&*payload);
            on_panic(message.clone());
            Panicked { message }
        })
    })?;
    Ok(Worker { handle })
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(message) = payload.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

impl Worker {
    /// The name it was started under.
    pub fn name(&self) -> Option<&str> {
        self.handle.thread().name()
    }

    /// Waits for the thread to end. [`Panicked`] if `body`, or `on_panic`, did.
    pub fn join(self) -> Result<(), Panicked> {
        match self.handle.join() {
            Ok(result) => result,
            Err(payload) => Err(Panicked { message: message_of(&*payload) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn thread_runs_under_its_name_and_ends() {
        let (sender, receiver) = mpsc::channel();
        let worker = spawn("pagestone-test", |_| (), move || {
            sender.send(std::thread::current().name().map(str::to_owned)).expect("the test waits");
        })
        .expect("a thread");
        assert_eq!(worker.name(), Some("pagestone-test"));
        assert_eq!(receiver.recv().expect("sent"), Some("pagestone-test".into()));
        assert_eq!(worker.join(), Ok(()));
    }

    #[test]
    fn panic_is_reported_before_the_thread_ends() {
        let (sender, receiver) = mpsc::channel();
        let on_panic = move |message| sender.send(message).expect("the test waits");
        let worker = spawn("pagestone-test", on_panic, || panic!("page {}", 7)).expect("a thread");
        assert_eq!(receiver.recv().expect("reported"), "page 7");
        assert_eq!(worker.join(), Err(Panicked { message: "page 7".into() }));
    }
}
