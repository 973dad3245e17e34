//! One value in and out, piece by piece.
//!
//! Invariant: no value is in memory whole, however long it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use kvstore::{KvStore, Put, StoreError, TreeError};

use super::failure::Failure;
use super::lines::open_input;
use super::listing::sync;

/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// Puts what the file at `path` holds, or stdin for `-`.
pub(crate) fn put(store: &KvStore, key: &[u8], path: &Path) -> Result<Put, Failure> {
    let (input, len) = open_input(path)?;
    // Files that the system makes up have no length and bytes all the same.
    match store.put_reader(key, len.filter(|len| *len > 0), input) {
        Err(StoreError::Tree(TreeError::Source { source })) => {
            Err(Failure::File { path: path.to_path_buf(), source })
        }
        put => Ok(put?),
    }
}

/// Writes the value into the file at `path`, durably; tells whether there is one. Without one no file is made.
pub(crate) fn get(store: &KvStore, key: &[u8], path: &Path) -> Result<bool, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let Some(value) = store.get_reader(key)? else { return Ok(false) };
    let mut file = File::create(path).map_err(failed)?;
    copy(value, &mut file, failed)?;
    sync(&file).map_err(failed)?;
    Ok(true)
}

/// Prints the value and a line end; tells whether there is one.
pub(crate) fn print(store: &KvStore, key: &[u8]) -> Result<bool, Failure> {
    let Some(value) = store.get_reader(key)? else { return Ok(false) };
    let mut stdout = io::stdout().lock();
    copy(value, &mut stdout, Failure::Output)?;
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).map_err(Failure::Output)?;
    Ok(true)
}

/// As [`io::copy`], but tells which side failed.
fn copy(
    mut from: impl Read,
    to: &mut impl Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).map_err(Failure::Value)? {
            0 => return Ok(()),
            some => to.write_all(&piece[..some]).map_err(&failed)?,
        }
    }
}
