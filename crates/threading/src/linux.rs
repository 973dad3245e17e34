//! Where the calling thread may run, on Linux.
//!
//! # Safety
//!
//! Two system calls over a mask that the caller of neither sees: an array of this file's, borrowed for the call, whose length in
//! bytes is what the kernel is told.
#![allow(unsafe_code)]

use std::io;

use crate::cpu_set::MAX_CPUS;
use crate::{CpuSet, NoTopology};

/// A bit for each processor, in the words that the kernel uses.
type Mask = [libc::c_ulong; MAX_CPUS as usize / WORD];

const WORD: usize = libc::c_ulong::BITS as usize;

/// Where the calling thread may run.
pub(crate) fn affinity() -> Result<CpuSet, NoTopology> {
    let mut mask: Mask = [0; MAX_CPUS as usize / WORD];
    // SAFETY: the kernel writes at most `size_of::<Mask>()` bytes to the mask, which is ours and as long; any bits are a value of it.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<Mask>(), mask.as_mut_ptr().cast()) };
    if done != 0 {
        return Err(NoTopology::Affinity { source: io::Error::last_os_error() });
    }
    Ok((0..MAX_CPUS).filter(|cpu| mask[*cpu as usize / WORD] >> (*cpu as usize % WORD) & 1 == 1).collect())
}

/// Lets the calling thread run on these processors alone. Errors: what the system says, `InvalidInput` if it has none of them.
pub(crate) fn pin(cpus: &CpuSet) -> io::Result<()> {
    let mut mask: Mask = [0; MAX_CPUS as usize / WORD];
    for cpu in cpus.iter().filter(|cpu| *cpu < MAX_CPUS) {
        mask[cpu as usize / WORD] |= 1 << (cpu as usize % WORD);
    }
    // SAFETY: the kernel reads `size_of::<Mask>()` bytes of the mask, which is as long, and keeps no reference.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr().cast()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
