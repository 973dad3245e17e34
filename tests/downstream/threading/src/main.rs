//! A named thread whose panic is noticed.

use std::sync::mpsc;

use pagestone_threading::spawn;

fn main() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| ())); // the panic below is meant
    let (sender, receiver) = mpsc::channel();
    let worker = spawn("stranger", move |message| drop(sender.send(message)), || panic!("noticed"))?;
    assert!(worker.join().is_err());
    assert_eq!(receiver.recv().expect("reported"), "noticed");
    Ok(())
}
