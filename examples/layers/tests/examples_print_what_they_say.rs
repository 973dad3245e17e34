//! Prevents: an example that no longer runs, or whose first lines tell of something that it does not do.

use std::process::Command;

/// What the first `text` block of a program's own documentation says that it prints.
fn promised(source: &str) -> String {
    let doc = source.lines().map_while(|line| line.strip_prefix("//!"));
    let block =
        doc.skip_while(|line| line.trim() != "```text").skip(1).take_while(|line| line.trim() != "```");
    block.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

fn check(binary: &str, source: &str) {
    let output = Command::new(binary).output().expect("it was built for this test");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{binary}: {errors}");
    let promised = promised(source);
    assert!(promised.lines().count() >= 5, "{binary} promises too little to be wrong: {promised}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), promised, "{binary}");
}

#[test]
fn page_file() {
    check(env!("CARGO_BIN_EXE_page_file"), include_str!("../src/bin/page_file.rs"));
}

#[test]
fn log_alone() {
    check(env!("CARGO_BIN_EXE_log_alone"), include_str!("../src/bin/log_alone.rs"));
}

#[test]
fn pool_over_file() {
    check(env!("CARGO_BIN_EXE_pool_over_file"), include_str!("../src/bin/pool_over_file.rs"));
}

#[test]
fn latch_and_swip() {
    check(env!("CARGO_BIN_EXE_latch_and_swip"), include_str!("../src/bin/latch_and_swip.rs"));
}

#[test]
fn hash_table() {
    check(env!("CARGO_BIN_EXE_hash_table"), include_str!("../src/bin/hash_table.rs"));
}

#[test]
fn heap_file() {
    check(env!("CARGO_BIN_EXE_heap_file"), include_str!("../src/bin/heap_file.rs"));
}

#[test]
fn none_is_forgotten() {
    let programs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin")).expect("it is there");
    assert_eq!(programs.count(), 6, "each program has a test here");
}
