//! Memory that direct I/O accepts.

/// The alignment of every [`AlignedBuf`], in bytes: the largest logical block of the devices that we know.
pub const IO_ALIGNMENT: usize = 4096;

/// A zeroed, fixed-size buffer of bytes whose address is a multiple of [`IO_ALIGNMENT`].
///
/// The alignment is had by allocating one alignment more and starting inside: safe code, at the price of 4 KiB a buffer,
/// which is why buffers are kept and used again where it matters.
pub struct AlignedBuf {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0u8; len + IO_ALIGNMENT].into_boxed_slice();
        let start = memory.as_ptr().align_offset(IO_ALIGNMENT);
        assert!(start < IO_ALIGNMENT, "byte pointers can always be aligned");
        Self { memory, start, len }
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_aligned_and_a_clone_keeps_the_bytes() {
        for len in [0, 1, 512, 4096, 12_288] {
            let mut buffer = AlignedBuf::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % IO_ALIGNMENT, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(7);
            let copy = buffer.clone();
            assert_eq!(copy.as_ptr() as usize % IO_ALIGNMENT, 0);
            assert_eq!(&*copy, &*buffer);
        }
    }
}
