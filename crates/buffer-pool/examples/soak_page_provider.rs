//! As `soak_pool`, with 256 frames, of which the page provider has some to spare.
//!
//! `--seconds N` goes on for about so long. Prints its figures in its last line, and fails if a promise was broken.
#![forbid(unsafe_code)]

#[path = "../tests/stress/mod.rs"]
mod stress;

use std::time::Duration;

use pagestone_direct_io::PageFile;
use pagestone_page_format::DEFAULT_PAGE_SIZE;
use stress::Stress;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.as_slice() {
        [] => 10,
        [name, value] if name == "--seconds" => value.parse()?,
        _ => return Err("expected --seconds N or nothing".into()),
    };
    let dir = tempfile::tempdir()?;
    let file = PageFile::open(dir.path().join("pages"), DEFAULT_PAGE_SIZE)?;
    let stress = Stress { pages: 10_000, frames: 256, threads: 8, time: Duration::from_secs(seconds) };
    let figures = stress.run(file);
    println!("8 threads, 256 frames, 10000 pages, {seconds} s: {figures}");
    Ok(())
}
