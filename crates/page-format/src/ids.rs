//! One newtype for every number that could be mistaken for another.

use crate::error::{PageError, PageResult};

/// The smallest page, in bytes. A model's pages are smaller: it looks at every word.
pub const MIN_PAGE_SIZE: usize = if cfg!(loom) { 64 } else { 4096 };
/// The largest page, in bytes (1 MiB).
pub const MAX_PAGE_SIZE: usize = 1 << 20;
/// The page size that is taken where none is asked for: 4 KiB, one device block, so that one miss is one I/O.
pub const DEFAULT_PAGE_SIZE: PageSize = PageSize { log2: 12 };

/// The number of a page in its file; page 0 is the first page behind the superblock copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(u64);

impl PageId {
    /// The largest id whose byte offset still fits a file of 2^63 bytes with the largest page, in whole powers of two.
    pub const MAX: PageId = PageId((1 << 42) - 1);

    /// A page id from its number. Any number can be named; a file refuses one past its end or past [`PageId::MAX`].
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for PageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageId({})", self.0)
    }
}

impl std::fmt::Display for PageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of a frame in the pool's array, which never moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameIndex(u32);

impl FrameIndex {
    /// A frame index from its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Its number, to index an array with.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A log sequence number: a byte offset in the log's one stream. It never falls, over segments, resets and restores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before everything: the LSN of a page that no logged change has touched.
    pub const ZERO: Lsn = Lsn(0);
    /// After everything.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// An LSN from its offset.
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// Its offset.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Debug for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lsn({})", self.0)
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The size of the pages of a file: a power of two from [`MIN_PAGE_SIZE`] to [`MAX_PAGE_SIZE`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize {
    log2: u8,
}

impl PageSize {
    /// Takes a size in bytes. [`PageError::InvalidPageSize`] if it is no power of two or out of range.
    ///
    /// ```
    /// use pagestone_page_format::PageSize;
    /// assert_eq!(PageSize::new(4096)?.get(), 4096);
    /// assert!(PageSize::new(4097).is_err());
    /// # Ok::<(), pagestone_page_format::PageError>(())
    /// ```
    pub const fn new(bytes: usize) -> PageResult<Self> {
        if bytes < MIN_PAGE_SIZE || bytes > MAX_PAGE_SIZE || !bytes.is_power_of_two() {
            return Err(PageError::InvalidPageSize { size: bytes });
        }
        Ok(Self { log2: bytes.trailing_zeros() as u8 })
    }

    /// Bytes in a page.
    pub const fn get(self) -> usize {
        1 << self.log2
    }

    /// 64-bit words in a page.
    pub const fn words(self) -> usize {
        self.get() / 8
    }

    /// Bytes that the header leaves to the page's owner.
    pub const fn payload_len(self) -> usize {
        self.get() - crate::PAGE_HEADER_SIZE
    }
}

impl std::fmt::Debug for PageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageSize({})", self.get())
    }
}

impl std::fmt::Display for PageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// What tells one store's files from another's: 16 random bytes, made when the store is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StoreUuid([u8; 16]);

impl StoreUuid {
    /// Takes 16 bytes, random ones for a new store.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::str::FromStr for StoreUuid {
    type Err = PageError;

    /// From its text: 32 hexadecimal digits, with hyphens behind the 8th, 12th, 16th and 20th. `Mismatch` for any other.
    fn from_str(text: &str) -> PageResult<Self> {
        let wrong = || PageError::Mismatch {
            expected: "a UUID, 32 hexadecimal digits in five groups".into(),
            found: format!("{} bytes of other text", text.len()),
        };
        let hyphens = [8, 13, 18, 23];
        if text.len() != 36 || !hyphens.iter().all(|at| text.as_bytes()[*at] == b'-') {
            return Err(wrong());
        }
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let nibble = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = pair else { return Err(wrong()) };
            *byte = nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        if digits.len() == 32 { Ok(Self(bytes)) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for StoreUuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for StoreUuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreUuid({self})")
    }
}
