//! The long form of `pages_survive_eviction_under_threads`, over a file: 8 threads, 10 000 pages, 64 frames for half of the time
//! and 256 for the other.
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
    // With 256 the page provider has some to spare.
    let mut figures = Vec::new();
    for frames in [64, 256] {
        let dir = tempfile::tempdir()?;
        let file = PageFile::open(dir.path().join("pages"), DEFAULT_PAGE_SIZE)?;
        let time = Duration::from_secs(seconds) / 2;
        let stress = Stress { pages: 10_000, frames, threads: 8, time };
        figures.push(format!("{frames} frames, {} s: {}", time.as_secs(), stress.run(file)));
    }
    println!("8 threads, 10000 pages; {}", figures.join("; "));
    Ok(())
}
