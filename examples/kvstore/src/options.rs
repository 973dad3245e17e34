//! How a key-value store is opened.

use pagestone::store::{Durability, Options};

/// How a key-value store is opened. The default suits most.
///
/// ```
/// use kvstore::{Durability, KvStoreOptions};
/// let options = KvStoreOptions { pool_bytes: 1 << 20, durability: Durability::RELAXED, ..KvStoreOptions::default() };
/// assert_eq!(options.log_bytes, 1 << 30);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvStoreOptions {
    /// Memory for pages, in bytes; at least 128 KiB. 256 MiB by default.
    pub pool_bytes: usize,
    /// When a write is acknowledged. [`Durability::Strict`] by default: once it is durable.
    pub durability: Durability,
    /// The log's budget, in bytes: at least four segments. 1 GiB by default.
    pub log_bytes: u64,
    /// Size of one segment of the log, in bytes: a multiple of 4096, at least 64 KiB. 64 MiB by default.
    pub segment_bytes: u64,
    /// Whether to make the store if there is none. True by default.
    pub create: bool,
}

impl Default for KvStoreOptions {
    fn default() -> Self {
        let defaults = Options::default();
        Self {
            pool_bytes: defaults.pool_bytes,
            durability: defaults.durability,
            log_bytes: defaults.log_bytes,
            segment_bytes: defaults.segment_bytes,
            create: defaults.create,
        }
    }
}

impl From<&KvStoreOptions> for Options {
    fn from(options: &KvStoreOptions) -> Self {
        Self {
            pool_bytes: options.pool_bytes,
            durability: options.durability,
            log_bytes: options.log_bytes,
            segment_bytes: options.segment_bytes,
            create: options.create,
            ..Self::default()
        }
    }
}
