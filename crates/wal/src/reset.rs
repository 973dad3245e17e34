//! Emptying the log.
//!
//! Invariant: LSNs never fall. A reset moves the start of recovery up to the log's end and gives back what lies below; the stream goes
//! on where it was, so no page is ever newer than the log because of one.

use pagestone_page_format::Lsn;

use crate::error::WalResult;
use crate::wal::Wal;

impl Wal {
    /// Empties the log: says that nobody needs what was appended before this call, because every page that it changed is durable.
    /// Gives the LSN from which it goes on: a later recovery begins there, or before if a power cut comes first.
    ///
    /// 1. Make it durable: recovery can begin only at an LSN that the log reaches.
    /// 2. A log alone records it durably, in both copies. Who keeps the start by themselves ([`crate::Recovery::open`]) have recorded
    ///    an LSN up to which the log was durable, and call [`Wal::recycle_below`] with that instead.
    /// 3. Segments below are used again or removed. What is appended meanwhile, by others, stays.
    ///
    /// Errors: `InvalidOptions` if the log does not keep its start itself; those of [`Wal::wait_durable`] and [`Wal::recycle_below`].
    /// After any but `Poisoned` it can be called again.
    pub fn reset(&self) -> WalResult<Lsn> {
        self.check_alone()?;
        let end = self.end_lsn();
        self.wait_durable(end)?;
        self.recycle_below(end)?; // the older copy now says what the newer one did
        self.recycle_below(end)?; // and now both say this
        Ok(end)
    }
}
