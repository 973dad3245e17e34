//! Entries out: to stdout, or into a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use kvstore::{Entries, KvStore, StoreResult};

use super::args::Listing;
use super::failure::Failure;
use super::format::Format;
use super::lines::MAX_VALUE_BYTES;

/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints what a scan gives, as it was asked for.
pub(crate) fn list(entries: Entries, listing: &Listing, format: Format) -> Result<(), Failure> {
    let limit = listing.limit.unwrap_or(usize::MAX);
    let stdout = &mut io::stdout().lock();
    if listing.reverse {
        write_entries(entries.rev().take(limit), format, stdout, Failure::Output)
    } else {
        write_entries(entries.take(limit), format, stdout, Failure::Output)
    }
}

/// Writes every entry to `file`, durably, or to stdout.
pub(crate) fn export(store: &KvStore, file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let Some(path) = file else {
        return write_entries(store.scan_all(), format, &mut io::stdout().lock(), Failure::Output);
    };
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let mut file = File::create(path).map_err(failed)?;
    write_entries(store.scan_all(), format, &mut file, failed)?;
    sync(&file).map_err(failed)
}

/// Makes a file durable; a pipe or a terminal has nothing to make durable.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.sync_all() } else { Ok(()) }
}

fn write_entries(
    entries: impl Iterator<Item = StoreResult<(Vec<u8>, Vec<u8>)>>,
    format: Format,
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut line = Vec::new();
    for (entry, number) in entries.zip(1..) {
        let (key, value) = entry?;
        if value.len() > MAX_VALUE_BYTES {
            let (found, limit) = (value.len(), MAX_VALUE_BYTES);
            return Err(Failure::TooLarge { entry: number, found, limit });
        }
        line.clear();
        format.entry(&key, &value, &mut line);
        out.write_all(&line).map_err(&failed)?;
    }
    out.flush().map_err(&failed)
}
