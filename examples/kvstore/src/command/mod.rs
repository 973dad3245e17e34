//! What the command does.
//!
//! Invariant: nothing reaches stdout before it is known to be right: a missing key prints nothing, an acknowledged key is
//! durable.
//!
//! ```text
//!   args.rs      Args: what can be asked             run.rs       one function per command
//!   encoding.rs  Encoding: text, hex, base64         format.rs    Format: TSV or JSON lines
//!   tsv.rs       escapes, both ways                  json.rs      JSON lines, both ways
//!   lines.rs     Lines: bounded lines in             listing.rs   entries out
//!   import.rs    lines, each for itself              batch.rs     lines, all or none
//!   value.rs     one value from and to a file        acks.rs      Acks: keys out, once durable
//!   failure.rs   Failure, Outcome                    progress.rs  the bar
//!   verify.rs    every page of the store             size.rs      `256MiB`
//! ```

mod acks;
mod args;
mod batch;
mod encoding;
mod failure;
mod format;
mod import;
mod json;
mod lines;
mod listing;
mod progress;
mod run;
mod size;
mod tsv;
mod value;
mod verify;

pub(crate) use args::Args;
pub(crate) use failure::Outcome;
pub(crate) use run::run;
