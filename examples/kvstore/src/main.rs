//! The command `kvstore`: a key-value store from the shell.
//!
//! Invariant: exit 0 means done and durable, 1 that the key is missing or the store damaged, 2 that the reason stands on stderr. A reader that
//! closes the pipe has what it wanted: that is done, too.
#![forbid(unsafe_code)]

mod command;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use command::{Args, Outcome};

fn main() -> ExitCode {
    match command::run(&Args::parse()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Missing | Outcome::Unsound) => ExitCode::from(1),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed stderr is no reason to panic.
            let _ = writeln!(std::io::stderr(), "kvstore: {failure}");
            ExitCode::from(2)
        }
    }
}
