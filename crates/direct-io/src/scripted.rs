//! A file in memory that does what a script says, for the tests of this crate. The simulated disk of
//! `pagestone-testkit` stands above this crate: only `tests/` can use it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use pagestone_page_format::IO_ALIGNMENT;
use pagestone_sync::Mutex;

use crate::File;

/// What one transfer does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    /// Transfers at most so many bytes.
    Short(usize),
    /// Fails.
    Fail(ErrorKind),
    /// Transfers nothing and claims a count.
    Claim(usize),
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    script: VecDeque<Script>,
    forever: Option<Script>,
    reserve: VecDeque<ErrorKind>,
    reserved: Vec<(u64, u64)>,
    transfers: Vec<(u64, usize)>,
}

#[derive(Debug)]
pub(crate) struct ScriptedFile {
    direct: bool,
    state: Mutex<State>,
}

impl ScriptedFile {
    pub(crate) fn new(direct: bool) -> Self {
        Self { direct, state: Mutex::new(State::default()) }
    }

    /// The next transfers; afterwards all goes well.
    pub(crate) fn script(&self, script: impl IntoIterator<Item = Script>) {
        let mut state = self.state.lock();
        state.script = script.into_iter().collect();
        state.forever = None;
    }

    /// All transfers from now on.
    pub(crate) fn script_forever(&self, script: Script) {
        self.state.lock().forever = Some(script);
    }

    /// The next calls of `reserve` fail.
    pub(crate) fn fail_reserve(&self, kinds: impl IntoIterator<Item = ErrorKind>) {
        self.state.lock().reserve = kinds.into_iter().collect();
    }

    /// Every call of `reserve`: offset and length.
    pub(crate) fn reserved(&self) -> Vec<(u64, u64)> {
        self.state.lock().reserved.clone()
    }

    /// Reads and writes so far.
    pub(crate) fn transfers(&self) -> usize {
        self.state.lock().transfers.len()
    }

    pub(crate) fn every_transfer_was_aligned(&self) -> bool {
        let state = self.state.lock();
        state.transfers.iter().all(|(offset, _)| offset.is_multiple_of(IO_ALIGNMENT as u64))
    }

    /// How much of `len` to transfer, or what to return.
    fn step(state: &mut State, offset: u64, len: usize) -> Result<usize, io::Result<usize>> {
        state.transfers.push((offset, len));
        match state.forever.or_else(|| state.script.pop_front()) {
            None => Ok(len),
            Some(Script::Short(most)) => Ok(len.min(most)),
            Some(Script::Fail(kind)) => Err(Err(kind.into())),
            Some(Script::Claim(count)) => Err(Ok(count)),
        }
    }
}

impl File for ScriptedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let len = match Self::step(&mut state, offset, buf.len()) {
            Ok(len) => len,
            Err(result) => return result,
        };
        let rest = state.bytes.get(offset as usize..).unwrap_or_default();
        let len = len.min(rest.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let len = match Self::step(&mut state, offset, buf.len()) {
            Ok(len) => len,
            Err(result) => return result,
        };
        let end = offset as usize + len;
        if len == 0 {
            return Ok(0);
        }
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[offset as usize..end].copy_from_slice(&buf[..len]);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().bytes.resize(len as usize, 0);
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.reserved.push((offset, len));
        if let Some(kind) = state.reserve.pop_front() {
            return Err(kind.into());
        }
        let end = (offset + len) as usize;
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn is_direct(&self) -> bool {
        self.direct
    }
}
