//! Transfers that have their buffers for themselves, through a ring.
//!
//! Invariant: each that was begun is given back once; what the ring cannot take is done alone, once somebody waits.

use std::io;

use super::file::{RealFile, Transfer, is_refused};
use super::ring::{InRing, RingOwned};
use crate::{File, OwnedRead, OwnedWrite, Reads, Writes};

/// Such a transfer.
pub(super) trait Owned {
    /// The bytes that it fills or takes.
    fn bytes(&self) -> &[u8];

    fn offset(&self) -> u64;

    fn result(&mut self) -> &mut io::Result<usize>;

    /// Does it now, by a call that blocks.
    fn do_alone(&mut self, file: &RealFile);
}

impl Owned for OwnedRead {
    fn bytes(&self) -> &[u8] {
        &self.buf
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn result(&mut self) -> &mut io::Result<usize> {
        &mut self.result
    }

    fn do_alone(&mut self, file: &RealFile) {
        self.result = file.read_at(&mut self.buf, self.offset);
    }
}

impl Owned for OwnedWrite {
    fn bytes(&self) -> &[u8] {
        OwnedWrite::bytes(self)
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn result(&mut self) -> &mut io::Result<usize> {
        &mut self.result
    }

    fn do_alone(&mut self, file: &RealFile) {
        self.result = file.write_at(self.bytes(), self.offset);
    }
}

/// Such transfers of one file.
pub(super) struct RealOwned<'f, O> {
    file: &'f RealFile,
    ring: RingOwned<'f, O>,
    alone: Vec<O>,
}

impl<'f> RealOwned<'f, OwnedRead> {
    pub(super) fn reads(file: &'f RealFile, ring: RingOwned<'f, OwnedRead>) -> Self {
        Self { file, ring, alone: Vec::new() }
    }
}

impl<'f> RealOwned<'f, OwnedWrite> {
    /// Of a file that nobody maps.
    pub(super) fn writes(file: &'f RealFile, ring: RingOwned<'f, OwnedWrite>) -> Self {
        Self { file, ring, alone: Vec::new() }
    }
}

impl<O: InRing> RealOwned<'_, O> {
    fn put(&mut self, owned: O) {
        let may_begin = Transfer::of(owned.bytes(), owned.offset()).may_begin(self.file.is_direct());
        let refused = if may_begin { self.ring.begin(owned).err() } else { Some(owned) };
        self.alone.extend(refused);
    }

    fn take(&mut self, least: usize, ended: &mut Vec<O>) {
        let before = ended.len();
        if !self.alone.is_empty() {
            self.ring.wait(0, ended); // those of the ring go on meanwhile
            for mut owned in self.alone.drain(..) {
                owned.do_alone(self.file);
                ended.push(owned);
            }
        }
        self.ring.wait(least.saturating_sub(ended.len() - before), ended);
        for owned in &mut ended[before..] {
            if is_refused(owned.result()) {
                owned.do_alone(self.file);
            }
        }
    }
}

impl Reads for RealOwned<'_, OwnedRead> {
    fn begin(&mut self, read: OwnedRead) {
        self.put(read);
    }

    fn wait(&mut self, least: usize, ended: &mut Vec<OwnedRead>) {
        self.take(least, ended);
    }
}

impl Writes for RealOwned<'_, OwnedWrite> {
    /// They are long: each pays for entering the kernel.
    fn begin(&mut self, write: OwnedWrite) {
        self.put(write);
        self.ring.submit();
    }

    fn wait(&mut self, least: usize, ended: &mut Vec<OwnedWrite>) {
        self.take(least, ended);
    }
}
