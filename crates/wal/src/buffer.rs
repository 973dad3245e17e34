//! The two buffers: one takes appends while the other is being written.
//!
//! Invariant: the memory is laid out as the stream's blocks are, so that a batch is written as it lies. All blocks before
//! the last are full; the last one's payload is filled up to `filled`, and what lies behind is whatever was there before
//! and is cleared when the block is sealed.
//!
//! ```text
//!   first                                  first + n
//!   ┌────┬──────────┬────┬──────────┬ … ┬────┬────────┬───┐
//!   │head│ payload  │head│ payload  │   │head│ payload│ ? │
//!   └────┴───▲──────┴────┴──────────┴   ┴────┴────────▲───┘
//!            └ sealed: durable or in flight before    └ filled
//! ```
//!
//! Sealing takes the memory away for the writer and goes on in the other: an open last block is copied there, so that its
//! next version carries what this one did.

use pagestone_page_format::{AlignedBuf, Lsn, StoreUuid};
use pagestone_sync::faults::planted;

use crate::block::{
    self, BLOCK, BlockHeader, CLOSED, FIRST_OF_GENERATION, HEADER, PAYLOAD, block_lsn, lsn_at, lsn_behind,
};

/// The buffer that takes appends.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    memory: AlignedBuf,
    /// Number of the block at the start of the memory.
    first: u64,
    /// Payload bytes filled, counted from that block's first.
    filled: usize,
    /// How many of them a batch has carried already.
    sealed: usize,
}

/// A run of blocks on its way to disk.
#[derive(Debug)]
pub(crate) struct Batch {
    memory: AlignedBuf,
    /// Number of its first block.
    pub(crate) first: u64,
    /// How many blocks.
    pub(crate) blocks: usize,
    last_used: usize,
    /// Whether the last block will get more: it goes to a tail slot and not to its home.
    pub(crate) open: bool,
    /// Whether it was closed before it was full.
    pub(crate) closed: bool,
}

/// What stands in every block of one opening of one log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) uuid: StoreUuid,
    pub(crate) generation: u64,
    /// The generation's first block, and the end of the last whole group before it.
    pub(crate) first: u64,
    pub(crate) prev_end: Lsn,
}

impl LogBuffer {
    /// An empty buffer that begins at a block.
    pub(crate) fn new(memory: AlignedBuf, first: u64) -> Self {
        Self { memory, first, filled: 0, sealed: 0 }
    }

    /// Payload bytes that it has room for in all.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len() / BLOCK * PAYLOAD
    }

    /// Payload bytes that are filled.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes that no batch has carried yet.
    pub(crate) fn fresh(&self) -> usize {
        self.filled - self.sealed
    }

    /// Number of the block behind the last one that `more` bytes would touch.
    pub(crate) fn block_behind(&self, more: usize) -> u64 {
        self.first + (self.filled + more).div_ceil(PAYLOAD) as u64
    }

    /// Appends a group. There is room for it. Gives the LSNs of its first byte and behind its last.
    pub(crate) fn append(&mut self, group: &[u8]) -> (Lsn, Lsn) {
        debug_assert!(self.filled + group.len() <= self.capacity(), "a reservation covers the group");
        let (number, at) = (self.first + (self.filled / PAYLOAD) as u64, self.filled % PAYLOAD);
        let start = lsn_at(number, at);
        let mut rest = group;
        while !rest.is_empty() {
            let (index, at) = (self.filled / PAYLOAD, self.filled % PAYLOAD);
            let block = &mut self.memory[index * BLOCK..(index + 1) * BLOCK];
            if at == 0 {
                block::begin(block);
            }
            if rest.len() == group.len() {
                block::note_group(block, at);
            }
            let (part, behind) = rest.split_at(rest.len().min(PAYLOAD - at));
            block[HEADER + at..HEADER + at + part.len()].copy_from_slice(part);
            self.filled += part.len();
            rest = behind;
        }
        (start, self.end())
    }

    /// LSN behind what is filled.
    fn end(&self) -> Lsn {
        match self.filled.checked_sub(1) {
            None => block_lsn(self.first),
            Some(last) => lsn_behind(self.first + (last / PAYLOAD) as u64, last % PAYLOAD + 1),
        }
    }

    /// Whether closing a partly filled last block wastes little beside what the batch carries. Then the batch is one
    /// contiguous write; else the last block goes to a tail slot, in a write of its own, and is filled further.
    pub(crate) fn should_close(&self) -> bool {
        let waste = self.filled.next_multiple_of(PAYLOAD) - self.filled;
        self.filled > PAYLOAD && waste * 2 <= self.fresh()
    }

    /// Takes what is filled as a batch and goes on in `other`. There is something fresh.
    pub(crate) fn seal(&mut self, other: AlignedBuf, close: bool) -> Batch {
        debug_assert!(self.fresh() > 0 && other.len() == self.memory.len());
        let blocks = self.filled.div_ceil(PAYLOAD);
        let last_used = self.filled - (blocks - 1) * PAYLOAD;
        let partial = last_used < PAYLOAD;
        let batch = Batch {
            memory: std::mem::replace(&mut self.memory, other),
            first: self.first,
            blocks,
            last_used,
            open: partial && !close,
            closed: partial && close,
        };
        if batch.open {
            let last = &batch.memory[(blocks - 1) * BLOCK..][..HEADER + last_used];
            if !planted("an open block is not carried over") {
                self.memory[..last.len()].copy_from_slice(last);
            }
            self.first += blocks as u64 - 1;
            self.filled = last_used;
        } else {
            self.first += blocks as u64;
            self.filled = 0;
        }
        self.sealed = self.filled;
        batch
    }
}

impl Batch {
    /// Fills in the headers of all blocks. `segment_blocks` tells for a block number how many its segment has.
    pub(crate) fn finish(&mut self, identity: &Identity, durable: Lsn, segment_blocks: impl Fn(u64) -> u32) {
        for index in 0..self.blocks {
            let number = self.first + index as u64;
            let block = &mut self.memory[index * BLOCK..(index + 1) * BLOCK];
            let last = index + 1 == self.blocks;
            let used = if last { self.last_used } else { PAYLOAD };
            block[HEADER + used..].fill(0);
            let begins = number == identity.first;
            let header = BlockHeader {
                flags: (if last && self.closed { CLOSED } else { 0 })
                    | (if begins { FIRST_OF_GENERATION } else { 0 }),
                segment_blocks: segment_blocks(number),
                uuid: identity.uuid,
                generation: identity.generation,
                number,
                durable_up_to: durable,
                prev_end: if begins { identity.prev_end } else { Lsn::ZERO },
                used: used as u16,
                first_group: block::first_group(block),
            };
            header.seal(block);
        }
    }

    /// Blocks that go to their homes: all but an open last one.
    pub(crate) fn home_blocks(&self) -> usize {
        self.blocks - usize::from(self.open)
    }

    /// The bytes of some of its blocks.
    pub(crate) fn bytes(&self, from: usize, count: usize) -> &[u8] {
        &self.memory[from * BLOCK..(from + count) * BLOCK]
    }

    /// Payload bytes lost to closing.
    pub(crate) fn padding(&self) -> usize {
        if self.closed { PAYLOAD - self.last_used } else { 0 }
    }

    /// The memory, for the next batch.
    pub(crate) fn into_memory(self) -> AlignedBuf {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(blocks: usize, first: u64) -> LogBuffer {
        let mut memory = AlignedBuf::zeroed(blocks * BLOCK);
        memory.fill(0xaa); // what an earlier batch left
        LogBuffer::new(memory, first)
    }

    fn identity(first: u64) -> Identity {
        Identity { uuid: StoreUuid::new([3; 16]), generation: 7, first, prev_end: Lsn::new(4096) }
    }

    fn headers(batch: &mut Batch, identity: &Identity) -> Vec<BlockHeader> {
        batch.finish(identity, Lsn::new(4096), |_| 14);
        (0..batch.blocks).map(|index| BlockHeader::decode(batch.bytes(index, 1)).expect("a block")).collect()
    }

    #[test]
    fn groups_cross_blocks_and_an_open_block_goes_on_in_the_other_buffer() {
        let mut log = buffer(4, 1);
        assert_eq!(log.append(&[1; 100]), (lsn_at(1, 0), lsn_at(1, 100)));
        assert_eq!(log.append(&[2; PAYLOAD]), (lsn_at(1, 100), lsn_at(2, 100)));
        let mut batch = log.seal(AlignedBuf::zeroed(4 * BLOCK), false);
        assert!(batch.open && batch.home_blocks() == 1);
        let found = headers(&mut batch, &identity(1));
        assert_eq!(
            (found[0].used as usize, found[0].first_group, found[0].flags),
            (PAYLOAD, 0, FIRST_OF_GENERATION)
        );
        assert_eq!((found[1].used, found[1].first_group, found[1].flags), (100, block::NO_GROUP, 0));
        assert_eq!(log.fresh(), 0);
        assert_eq!(log.append(&[3; 50]), (lsn_at(2, 100), lsn_at(2, 150)));
        let mut batch = log.seal(batch.into_memory(), false);
        let found = headers(&mut batch, &identity(1));
        assert_eq!((found[0].number, found[0].used, found[0].first_group), (2, 150, 100));
        assert_eq!(batch.bytes(0, 1)[HEADER..HEADER + 100], [2; 100]);
        assert_eq!(batch.bytes(0, 1)[HEADER + 100..HEADER + 150], [3; 50]);
    }

    #[test]
    fn a_full_last_block_is_final_and_a_closed_one_is_left_behind() {
        let mut log = buffer(3, 9);
        let (_, end) = log.append(&[1; PAYLOAD]);
        assert_eq!(end, block_lsn(10));
        let mut batch = log.seal(AlignedBuf::zeroed(3 * BLOCK), true);
        assert!(!batch.open && !batch.closed && headers(&mut batch, &identity(1))[0].is_final());
        log.append(&[2; PAYLOAD + 10]);
        let mut batch = log.seal(batch.into_memory(), true);
        let found = headers(&mut batch, &identity(1));
        assert!(found[1].is_final() && batch.closed && batch.padding() == PAYLOAD - 10);
        assert_eq!(log.append(&[3; 1]), (lsn_at(12, 0), lsn_at(12, 1)));
    }

    #[test]
    fn closing_is_for_batches_that_dwarf_the_waste() {
        let mut log = buffer(16, 1);
        log.append(&[1; 3000]);
        assert!(!log.should_close(), "one block is never closed");
        log.append(&[1; 1100]);
        assert!(!log.should_close(), "nearly a block would be wasted");
        log.append(&[1; 3000]);
        assert!(log.should_close());
    }
}
