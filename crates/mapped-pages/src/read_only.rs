//! A pager that only reads.
//!
//! Invariant: nobody gets a `&mut` of the pager, so nothing that would write compiles; and its maps are made to read.

use std::ops::Deref;

/// A pager of a file that was opened to read: whatever takes `&` of the pager works, whatever takes `&mut` does not compile.
///
/// ```
/// use pagestone_mapped_pages::{PageId, Pager, ReadOnly};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("pages");
/// let mut pager = Pager::<4096>::create(&path)?;
/// let id = pager.alloc()?;
/// drop(pager);
///
/// let one: ReadOnly<Pager<4096>> = Pager::read_only(&path)?;
/// let another = Pager::<4096>::read_only(&path)?;            // beside it, here or in another process
/// assert_eq!(id.get(&one)?.as_bytes(), id.get(&another)?.as_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0596
/// # use pagestone_mapped_pages::Pager;
/// let mut pager = Pager::<4096>::read_only("pages").unwrap();
/// pager.alloc().unwrap();
/// ```
#[derive(Debug)]
pub struct ReadOnly<P>(pub(crate) P);

impl<P> Deref for ReadOnly<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}
