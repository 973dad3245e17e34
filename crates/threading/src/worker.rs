//! A thread with a name and an end that is noticed.
//!
//! Invariant: `on_panic` runs if and only if the body panicked, once, on the thread itself and before `join` returns.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Starts a thread. Its name is shown by the system (Linux shows the first 15 bytes).
///
/// If `body` panics, the panic is caught and its message given to `on_panic`, on that thread: there its owner poisons what
/// the thread worked on and wakes whoever waits for it (E8). A panic of `on_panic` itself is caught too.
///
/// Errors: what the system says when it refuses a thread; `InvalidInput` for a name with a zero byte. Then neither closure
/// has run.
pub fn spawn(
    name: &str,
    on_panic: impl FnOnce(String) + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Worker> {
    if name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a thread's name has no zero byte"));
    }
    let thread_name = name.to_owned();
    let run = move || {
        let Err(panic) = catch_unwind(AssertUnwindSafe(body)) else { return Ok(()) };
        let mut message = message_of(&*panic);
        let told = message.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_panic(told))) {
            message += &format!("; then its panic handler panicked: {}", message_of(&*panic));
        }
        Err(WorkerPanicked { thread: thread_name, message })
    };
    let thread = Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(Worker { name: name.to_owned(), thread })
}

/// A running thread. Dropping it lets the thread run on, unobserved: owners join.
#[derive(Debug)]
#[must_use = "a worker that is dropped cannot be joined any more"]
pub struct Worker {
    name: String,
    thread: JoinHandle<Result<(), WorkerPanicked>>,
}

impl Worker {
    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end. [`WorkerPanicked`] if the body panicked.
    pub fn join(self) -> Result<(), WorkerPanicked> {
        let Self { name, thread } = self;
        // Both closures are caught inside: only dropping what they panicked with can panic past that.
        thread
            .join()
            .unwrap_or_else(|panic| Err(WorkerPanicked { thread: name, message: message_of(&*panic) }))
    }
}

/// How a thread ended that did not return.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerPanicked {
    /// The thread's name.
    pub thread: String,
    /// The panic's message.
    pub message: String,
}

impl fmt::Display for WorkerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} panicked: {}", self.thread, self.message)
    }
}

impl std::error::Error for WorkerPanicked {}

fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A panic without the noise on stderr.
    fn quiet_panic(message: impl Any + Send) -> ! {
        resume_unwind(Box::new(message))
    }

    fn not_called(message: String) {
        panic!("the panic handler ran without a panic: {message}");
    }

    #[test]
    fn a_body_that_returns_is_joined() {
        let (send, receive) = mpsc::channel();
        let worker =
            spawn("adder", not_called, move || send.send(1 + 1).expect("the test waits")).expect("a thread");
        assert_eq!(worker.name(), "adder");
        assert_eq!(worker.join(), Ok(()));
        assert_eq!(receive.recv(), Ok(2));
    }

    #[test]
    fn a_panic_is_told_before_the_join_and_by_it() {
        let cases: [(fn(), &str); 3] = [
            (|| quiet_panic("a literal"), "a literal"),
            (|| quiet_panic(format!("{} words", 2)), "2 words"),
            (|| quiet_panic(17), "a panic without a message"),
        ];
        for (body, message) in cases {
            let (send, receive) = mpsc::channel();
            let worker = spawn("failing", move |told| send.send(told).expect("the test waits"), body)
                .expect("a thread");
            // Told without a join: nobody has to ask.
            assert_eq!(receive.recv_timeout(Duration::from_secs(20)).as_deref(), Ok(message));
            let panicked = worker.join().expect_err("it panicked");
            assert_eq!(panicked, WorkerPanicked { thread: "failing".into(), message: message.into() });
            assert_eq!(panicked.to_string(), format!("thread failing panicked: {message}"));
        }
    }

    #[test]
    fn a_panic_of_the_handler_is_told_by_the_join() {
        let worker = spawn("twice", |_| quiet_panic("second"), || quiet_panic("first")).expect("a thread");
        let message = worker.join().expect_err("it panicked").message;
        assert_eq!(message, "first; then its panic handler panicked: second");
    }

    #[test]
    fn a_name_with_a_zero_byte_is_an_error_and_nothing_runs() {
        let refused = spawn("a\0b", not_called, || panic!("the body ran")).expect_err("no such name");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_shows_the_name() {
        let (send, receive) = mpsc::channel();
        let worker = spawn("page-provider-with-a-long-name", not_called, move || {
            let shown = std::fs::read_to_string("/proc/thread-self/comm").expect("Linux has it");
            send.send((shown, std::thread::current().name().map(str::to_owned))).expect("the test waits");
        })
        .expect("a thread");
        worker.join().expect("no panic");
        let (shown, name) = receive.recv().expect("sent");
        assert_eq!(shown.trim_end(), "page-provider-w");
        assert_eq!(name.as_deref(), Some("page-provider-with-a-long-name"));
    }
}
