//! What the command does.
//!
//! Invariant: nothing reaches stdout before it is known to be right: a missing key prints nothing, an acknowledged key is
//! durable.
//!
//! ```text
//!   args.rs      Args: what can be asked             run.rs       one function per command
//!   encoding.rs  Encoding: text, hex, base64         format.rs    Format: TSV or JSON lines
//!   tsv.rs       escapes, both ways                  failure.rs   Failure, Outcome
//!   import.rs    lines into the store                acks.rs      Acks: keys out, once durable
//!   progress.rs  the bar                             size.rs      `256MiB`
//! ```

mod acks;
mod args;
mod encoding;
mod failure;
mod format;
mod import;
mod progress;
mod run;
mod size;
mod tsv;

pub(crate) use args::Args;
pub(crate) use failure::Outcome;
pub(crate) use run::run;
