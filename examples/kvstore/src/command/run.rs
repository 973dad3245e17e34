//! The commands: open, do, close.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use kvstore::KvStore;

use super::args::{Args, Command, LineForm, Listing};
use super::failure::{Failure, Outcome};
use super::format::Format;
use super::import::Import;
use super::lines::Lines;
use super::listing::{export, list};
use super::progress::RecoveryBar;
use super::verify::verify;
use super::{batch, value};

/// Does what was asked. Writes are durable when it returns `Ok`.
pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let (format, options) = (args.format()?, args.options()?);
    // Before the store is opened: what cannot be read makes no store.
    let asked = Asked::read(&args.command, format)?;
    let mut recovery = RecoveryBar::new();
    let store = KvStore::open_with_progress(&args.data_dir, &options, |now| recovery.at(now))?;
    drop(recovery);
    if let Some(damage) = &store.open_report().superblock_damage {
        let _ = writeln!(io::stderr(), "kvstore: warning: {damage}; the other copy was used");
    }
    let outcome = asked.answer(&store, format);
    // Whatever the outcome: what was written before it is kept. Its failure counts first, but for a reader who went away:
    // that is success only if everything is durable.
    let closed = store.close();
    match outcome {
        Err(failure) if !failure.is_closed_pipe() => Err(failure),
        // What closing makes of a damaged page was told.
        Ok(Outcome::Unsound) => Ok(Outcome::Unsound),
        outcome => {
            closed?;
            outcome
        }
    }
}

/// A command with its arguments decoded and its file open.
enum Asked<'a> {
    Put { key: Vec<u8>, value: Vec<u8> },
    PutFile { key: Vec<u8>, file: &'a Path },
    Get { key: Vec<u8> },
    GetFile { key: Vec<u8>, file: &'a Path },
    Del { key: Vec<u8> },
    Scan { prefix: Vec<u8>, listing: &'a Listing },
    Range { from: Vec<u8>, to: Vec<u8>, listing: &'a Listing },
    Count,
    Export { format: Format, file: Option<&'a Path> },
    Import(Import),
    Batch(Lines),
    Checkpoint,
    Sync,
    Verify,
    Compact,
    Stats { prometheus: bool },
}

impl<'a> Asked<'a> {
    fn read(command: &'a Command, format: Format) -> Result<Self, Failure> {
        let bytes = |name, argument: &OsStr| format.encoding.argument(name, argument);
        Ok(match command {
            Command::Put { key, value_file: Some(file), .. } => {
                Self::PutFile { key: bytes("KEY", key)?, file }
            }
            Command::Put { key, value, .. } => {
                let value = value.as_deref().unwrap_or_default();
                Self::Put { key: bytes("KEY", key)?, value: bytes("VALUE", value)? }
            }
            Command::Get { key, output: None } => Self::Get { key: bytes("KEY", key)? },
            Command::Get { key, output: Some(file) } => Self::GetFile { key: bytes("KEY", key)?, file },
            Command::Del { key } => Self::Del { key: bytes("KEY", key)? },
            Command::Scan { prefix, listing } => {
                let prefix = prefix.as_deref().unwrap_or_default();
                Self::Scan { prefix: bytes("--prefix", prefix)?, listing }
            }
            Command::Range { from, to, listing } => {
                Self::Range { from: bytes("FROM", from)?, to: bytes("TO", to)?, listing }
            }
            Command::Count => Self::Count,
            Command::Export { output, format: form, tsv } => {
                let json = !tsv && *form != Some(LineForm::Tsv);
                Self::Export { format: Format { json, ..format }, file: output.as_deref() }
            }
            Command::Import { file, ack, format: form } => {
                let form = form.unwrap_or(if format.json { LineForm::Jsonl } else { LineForm::Tsv });
                Self::Import(Import::open(file, form, format, *ack)?)
            }
            Command::Batch { file } => Self::Batch(batch::open(file, format)?),
            Command::Checkpoint => Self::Checkpoint,
            Command::Sync => Self::Sync,
            Command::Verify => Self::Verify,
            Command::Compact => Self::Compact,
            Command::Stats { prometheus } => Self::Stats { prometheus: *prometheus },
        })
    }

    fn answer(self, store: &KvStore, format: Format) -> Result<Outcome, Failure> {
        let mut out = Vec::new();
        match self {
            Self::Put { key, value } => {
                format.put(store.put(key, value)?, &mut out);
            }
            Self::Get { key } if format.is_bare() => {
                if !value::print(store, &key)? {
                    return Ok(Outcome::Missing);
                }
            }
            Self::Get { key } => match store.get(&key)? {
                Some(value) => format.answer(&key, &value, &mut out),
                None => return Ok(Outcome::Missing),
            },
            Self::PutFile { key, file } => {
                let put = value::put(store, &key, file)?;
                format.put(put, &mut out);
            }
            Self::GetFile { key, file } => {
                if !value::get(store, &key, file)? {
                    return Ok(Outcome::Missing);
                }
            }
            Self::Del { key } => {
                if !store.del(key)? {
                    return Ok(Outcome::Missing);
                }
            }
            Self::Scan { prefix, listing } => list(store.scan_prefix(prefix), listing, format)?,
            Self::Range { from, to, listing } => list(store.scan_range(from..to), listing, format)?,
            Self::Count => format.figure("count", store.count()?, &mut out),
            Self::Export { format, file } => export(store, file, format)?,
            Self::Import(import) => import.run(store, format)?,
            Self::Batch(lines) => format.batch(&batch::commit(store, lines)?, &mut out),
            Self::Checkpoint => store.checkpoint()?,
            Self::Sync => store.sync()?,
            Self::Verify => return verify(store, format),
            Self::Compact => {
                let figures = store.compact()?.figures();
                format.figures(figures.iter().map(|(name, _, value)| (*name, *value)), &mut out);
            }
            Self::Stats { prometheus: true } => {
                out.extend_from_slice(store.prometheus()?.as_bytes());
            }
            Self::Stats { prometheus: false } => {
                let (counted, measured) = (store.stats()?.figures(), store.measurements());
                let counted = counted.iter().map(|(name, _, value)| (*name, *value));
                let measured = measured.iter().map(|(name, value)| (name.as_str(), *value));
                format.figures(counted.chain(measured), &mut out);
            }
        }
        print(&out)?;
        Ok(Outcome::Done)
    }
}

pub(super) fn print(out: &[u8]) -> Result<(), Failure> {
    if out.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(out).and_then(|()| stdout.flush()).map_err(Failure::Output)
}
