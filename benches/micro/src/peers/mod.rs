//! Peers in the same contests, behind one face; without the feature there are none, and the tables say nothing of them.

#[cfg(feature = "peers")]
mod mappedpages;
#[cfg(feature = "peers")]
mod page_db;
#[cfg(feature = "peers")]
use page_db as chosen;
#[cfg(not(feature = "peers"))]
mod none;
#[cfg(feature = "peers")]
use mappedpages as mapped;
#[cfg(not(feature = "peers"))]
use none as chosen;
#[cfg(not(feature = "peers"))]
use none as mapped;

pub(crate) use chosen::{Ids, Pages, Pool, crc32c};
pub(crate) use mapped::{Mapped, create_large, open_large};
