//! A named thread whose panic is noticed, and one that runs on the cores of its class.

use std::sync::mpsc;

use pagestone_threading::{Spawner, ThreadClass, spawn};

fn main() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| ())); // the panic below is meant
    let (sender, receiver) = mpsc::channel();
    let worker = spawn("stranger", move |message| drop(sender.send(message)), || panic!("noticed"))?;
    assert!(worker.join().is_err());
    assert_eq!(receiver.recv().expect("reported"), "noticed");
    let threads = Spawner::detected();
    assert_eq!(threads.topology().is_some(), threads.reason().is_none());
    let worker = threads.spawn(ThreadClass::Efficient, "stranger", drop, || ())?;
    worker.join().expect("no panic");
    Ok(())
}
