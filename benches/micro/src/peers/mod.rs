//! Peers in the same contests, behind one face; without the feature there are none, and the tables say nothing of them.

#[cfg(feature = "peers")]
mod page_db;
#[cfg(feature = "peers")]
use page_db as chosen;
#[cfg(not(feature = "peers"))]
mod none;
#[cfg(not(feature = "peers"))]
use none as chosen;

pub(crate) use chosen::{Ids, Pages, Pool, crc32c};
