//! Figures of a key-value store.

use pagestone::store::StoreStats;

/// What a key-value store has done.
#[derive(Debug, Clone, PartialEq)]
pub struct KvStats {
    /// Pages evicted over the life of the store, as of its last close, and since it was opened.
    pub evictions: u64,
    /// Nodes split over the life of the store, as of its last close, and since it was opened.
    pub splits: u64,
    /// Everything since it was opened.
    pub store: StoreStats,
}

impl KvStats {
    /// Every figure by name, with what it means: the two over the store's life first.
    pub fn figures(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut figures = vec![
            ("evictions", "pages evicted over the life of the store", self.evictions),
            ("splits", "nodes split over the life of the store", self.splits),
        ];
        figures.extend(self.store.figures());
        figures
    }
}
