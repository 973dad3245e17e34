//! One value, from a file and into a file.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use kvstore::{KvStore, Put};

use super::failure::Failure;
use super::lines::open_input;
use super::listing::sync;

/// Puts what the file at `path` holds, or stdin for `-`.
pub(crate) fn put(store: &KvStore, key: &[u8], path: &Path) -> Result<Put, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let (input, _) = open_input(path)?;
    let mut value = Vec::new();
    let longest = store.tree().max_value_len(key.len()) as u64;
    input.take(longest + 1).read_to_end(&mut value).map_err(failed)?;
    Ok(store.put(key, value)?)
}

/// Writes the value into the file at `path`, durably; tells whether there is one. Without one no file is made.
pub(crate) fn get(store: &KvStore, key: &[u8], path: &Path) -> Result<bool, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let Some(value) = store.get(key)? else { return Ok(false) };
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(&value).and_then(|()| sync(&file)).map_err(failed)?;
    Ok(true)
}
