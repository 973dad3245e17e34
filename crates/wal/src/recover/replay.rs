//! Groups out of the payload of blocks.
//!
//! Invariant: a group is handed out only if all its bytes were read, in the order of the stream, and its checksum and every
//! record's frame are right. Its blocks being whole and its bytes being wrong is something that no crash explains.

use pagestone_page_format::{Lsn, PageResult};

use crate::block::{BlockHeader, CLOSED, NO_GROUP, lsn_at, lsn_behind, position};
use crate::error::{WalError, WalResult};
use crate::group::{GROUP_HEADER, Group, group_len};
use crate::recover::ReplayReport;

/// Puts groups together. Its memory is bounded by the largest group.
pub(crate) struct Assembler {
    /// Groups that start before are passed over.
    checkpoint: Lsn,
    /// Whether the checkpoint has been found to be a boundary between groups.
    aligned: bool,
    /// The bytes so far of a group that crosses blocks, and where it starts.
    pending: Vec<u8>,
    pending_start: Lsn,
    report: ReplayReport,
}

impl Assembler {
    pub(crate) fn new(checkpoint: Lsn) -> Self {
        Self {
            checkpoint,
            aligned: false,
            pending: Vec::new(),
            pending_start: checkpoint,
            report: ReplayReport { end: checkpoint, ..ReplayReport::default() },
        }
    }

    /// What was handed out so far, and the end of the last whole group.
    pub(crate) fn report(&self) -> ReplayReport {
        self.report
    }

    /// Whether the bytes so far end inside a group.
    pub(crate) fn is_inside_group(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Drops what belongs to no whole group: a generation begins.
    pub(crate) fn cut(&mut self) {
        self.pending.clear();
    }

    /// Takes the next block's used bytes and hands out the groups that end in it.
    pub(crate) fn take(
        &mut self,
        header: &BlockHeader,
        payload: &[u8],
        apply: &mut impl FnMut(Group<'_>) -> PageResult<()>,
    ) -> WalResult<()> {
        let number = header.number;
        let mut at = if self.aligned { 0 } else { self.first_group(header)? };
        let mut first_group = None;
        while at < payload.len() {
            if self.pending.is_empty() {
                first_group.get_or_insert(at);
                self.align((number, at))?;
                let start = lsn_at(number, at);
                if let Some(len) = whole_group(&payload[at..], start)? {
                    let bytes = &payload[at..at + len];
                    at += len;
                    self.hand_out(bytes, start, lsn_behind(number, at), apply)?;
                    continue;
                }
                self.pending_start = start;
            }
            at += self.gather(&payload[at..])?;
            if self.is_complete()? {
                let bytes = std::mem::take(&mut self.pending);
                self.hand_out(&bytes, self.pending_start, lsn_behind(number, at), apply)?;
                self.pending = bytes;
                self.pending.clear();
            }
        }
        let found = first_group.map_or(NO_GROUP, |at| at as u16);
        if found != header.first_group {
            return Err(WalError::corrupt(
                lsn_at(number, 0),
                "a block's groups begin elsewhere than it says",
            ));
        }
        if header.has(CLOSED) && self.is_inside_group() {
            return Err(WalError::corrupt(self.pending_start, "a block was closed inside a group"));
        }
        self.align_behind(header)
    }

    /// Where to begin in the first block: what stands before belongs to a group that starts before the checkpoint.
    fn first_group(&self, header: &BlockHeader) -> WalResult<usize> {
        match header.first_group {
            NO_GROUP => Ok(header.used.into()),
            at => Ok(at.into()),
        }
    }

    /// A group begins here. The first one at or past the checkpoint must begin right at it.
    fn align(&mut self, here: (u64, usize)) -> WalResult<()> {
        let wanted = position(self.checkpoint);
        if self.aligned || here < wanted {
            return Ok(());
        }
        self.aligned = here == wanted;
        if self.aligned { Ok(()) } else { Err(self.misplaced()) }
    }

    /// The first block has been taken. If no group began at the checkpoint, one must have ended there.
    fn align_behind(&mut self, header: &BlockHeader) -> WalResult<()> {
        if !self.aligned {
            if self.is_inside_group() || position(header.end()) != position(self.checkpoint) {
                return Err(self.misplaced());
            }
            self.aligned = true;
        }
        Ok(())
    }

    fn misplaced(&self) -> WalError {
        WalError::corrupt(self.checkpoint, "the checkpoint lies at no boundary between groups")
    }

    /// Adds bytes to the pending group, no more than belong to it as far as is known. Gives how many.
    fn gather(&mut self, bytes: &[u8]) -> WalResult<usize> {
        let wanted = match self.pending.first_chunk() {
            Some(header) => self.len_of(header)?,
            None => GROUP_HEADER,
        };
        let step = bytes.len().min(wanted - self.pending.len());
        self.pending.extend_from_slice(&bytes[..step]);
        Ok(step)
    }

    fn is_complete(&self) -> WalResult<bool> {
        match self.pending.first_chunk() {
            Some(header) => Ok(self.pending.len() == self.len_of(header)?),
            None => Ok(false),
        }
    }

    fn len_of(&self, header: &[u8; GROUP_HEADER]) -> WalResult<usize> {
        group_len(header).ok_or_else(|| WalError::corrupt(self.pending_start, IMPOSSIBLE))
    }

    fn hand_out(
        &mut self,
        bytes: &[u8],
        start: Lsn,
        end: Lsn,
        apply: &mut impl FnMut(Group<'_>) -> PageResult<()>,
    ) -> WalResult<()> {
        let group = Group::decode(bytes, start, end)
            .ok_or_else(|| WalError::corrupt(start, "a group in whole blocks is broken"))?;
        self.report.end = self.report.end.max(end);
        if self.aligned {
            self.report.groups += 1;
            self.report.records += group.len() as u64;
            self.report.bytes += bytes.len() as u64;
            apply(group)?;
        }
        Ok(())
    }
}

const IMPOSSIBLE: &str = "a group has an impossible length";

/// Bytes of the group at the front if all of it is there.
fn whole_group(bytes: &[u8], start: Lsn) -> WalResult<Option<usize>> {
    let Some(header) = bytes.first_chunk() else { return Ok(None) };
    let len = group_len(header).ok_or_else(|| WalError::corrupt(start, IMPOSSIBLE))?;
    Ok((len <= bytes.len()).then_some(len))
}
