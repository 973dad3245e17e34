//! One value, from a file and into a file.

use std::fs::File;
use std::io;
use std::path::Path;

use kvstore::{KvStore, Put, StoreError};
use pagestone::btree::TreeError;

use super::failure::Failure;
use super::lines::open_input;
use super::listing::sync;

/// Puts what the file at `path` holds, or stdin for `-`.
pub(crate) fn put(store: &KvStore, key: &[u8], path: &Path) -> Result<Put, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let (input, _) = open_input(path)?;
    match store.tree().put_reader(key, None, input) {
        Err(StoreError::Tree(TreeError::Source { source })) => Err(failed(source)),
        put => Ok(put?),
    }
}

/// Writes the value into the file at `path`, durably; tells whether there is one. Without one no file is made.
pub(crate) fn get(store: &KvStore, key: &[u8], path: &Path) -> Result<bool, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let Some(mut value) = store.tree().get_reader(key)? else { return Ok(false) };
    let mut file = File::create(path).map_err(failed)?;
    io::copy(&mut value, &mut file).and_then(|_| sync(&file)).map_err(failed)?;
    Ok(true)
}
