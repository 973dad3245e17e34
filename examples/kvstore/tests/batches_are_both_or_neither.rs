//! A batch over two trees must be in both or in neither when its writer is killed, or an index and its table part for ever.
//!
//! This is the quick form; `cargo xtask soak` runs the long one, examples/soak_kills.rs. The program is its own writer.

#[path = "support/batch_loop/mod.rs"]
mod batch_loop;

use std::error::Error;
use std::time::{Duration, SystemTime};

use batch_loop::{BatchLoop, Writer};

const NAME: &str = "batches_are_both_or_neither";

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(writer) = Writer::from_arguments() {
        return writer.run();
    }
    // As every test: run unless others are asked for by name.
    let mut filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| NAME.contains(&filter)) {
        return Ok(());
    }
    let temporary = tempfile::tempdir()?;
    // Another one each time; a failure names it.
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    println!("seed {seed}");
    let figures = BatchLoop {
        dir: temporary.path().into(),
        seed,
        rounds: 48,
        until: None,
        longest: Duration::from_millis(30),
        lanes: 2,
    }
    .run();
    println!("{}", figures.to_line());
    assert_eq!((figures.rounds, figures.lost), (48, 0));
    assert!(figures.acknowledged > 0 && figures.entries > 0, "no writer lived long enough: {figures:?}");
    // As the other tests end, for whoever counts them.
    println!(
        "test {NAME} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"
    );
    Ok(())
}
