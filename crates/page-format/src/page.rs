//! An owned page in private, aligned memory.

use crate::header::{CHECKSUM_AT, ID_AT, LSN_AT};
use crate::{
    AlignedBuf, Lsn, PAGE_HEADER_SIZE, PageChecksum, PageError, PageHeader, PageId, PageKind, PageResult,
    PageSize,
};

/// A page that nobody else sees: what storage reads into and writes from.
///
/// ```
/// use pagestone_page_format::{ChecksumKind, Lsn, Page, PageChecksum, PageId, PageSize, StoreUuid};
/// let seal = PageChecksum::new(ChecksumKind::Crc32c, StoreUuid::new([7; 16]));
/// let mut page = Page::new(PageSize::new(4096)?, PageId::new(3));
/// page.payload_mut()[..5].copy_from_slice(b"hello");
/// page.set_lsn(Lsn::new(99));
/// let bytes = page.to_checksummed_bytes(&seal).to_vec();
/// let back = Page::from_bytes(&bytes, PageId::new(3), &seal)?;
/// assert_eq!(&back.payload()[..5], b"hello");
/// assert_eq!(back.lsn(), Lsn::new(99));
/// # Ok::<(), pagestone_page_format::PageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Page {
    bytes: AlignedBuf,
    size: PageSize,
}

impl Page {
    /// A zeroed plain page with a header.
    pub fn new(size: PageSize, id: PageId) -> Self {
        let mut bytes = AlignedBuf::zeroed(size.get());
        PageHeader::new(PageKind::PLAIN, id).encode(&mut bytes);
        Self { bytes, size }
    }

    /// Copies and verifies the bytes of page `id`.
    ///
    /// Errors: `ShortRead` for a length that is no page size, then those of [`PageChecksum::verify`].
    pub fn from_bytes(bytes: &[u8], id: PageId, checksum: &PageChecksum) -> PageResult<Self> {
        let size = PageSize::new(bytes.len()).map_err(|_| PageError::ShortRead {
            page_id: id,
            got: bytes.len(),
            page_size: crate::MIN_PAGE_SIZE,
        })?;
        checksum.verify(id, bytes)?;
        let mut buffer = AlignedBuf::zeroed(size.get());
        buffer.copy_from_slice(bytes);
        Ok(Self { bytes: buffer, size })
    }

    /// Its size.
    pub fn page_size(&self) -> PageSize {
        self.size
    }

    /// Its decoded header.
    pub fn header(&self) -> PageHeader {
        PageHeader::decode(&self.bytes).expect("a page is longer than its header")
    }

    /// Which page it is.
    pub fn id(&self) -> PageId {
        self.header().page_id
    }

    /// Makes it another page; for buffers that are used again.
    pub fn set_id(&mut self, id: PageId) {
        self.put(ID_AT, id.get());
    }

    /// End LSN of the last group that changed it.
    pub fn lsn(&self) -> Lsn {
        self.header().lsn
    }

    /// Sets that LSN.
    pub fn set_lsn(&mut self, lsn: Lsn) {
        self.put(LSN_AT, lsn.get());
    }

    /// What stands behind the header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[PAGE_HEADER_SIZE..]
    }

    /// What stands behind the header, to change.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[PAGE_HEADER_SIZE..]
    }

    /// All bytes, the header among them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All bytes, to read into or to copy over.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Stamps the checksum and gives the bytes to write.
    pub fn to_checksummed_bytes(&mut self, checksum: &PageChecksum) -> &[u8] {
        checksum.stamp(&mut self.bytes);
        &self.bytes
    }

    /// Its memory, for a transfer that keeps what it fills; [`Page::from_buf`] makes it a page again.
    pub fn into_buf(self) -> AlignedBuf {
        self.bytes
    }

    /// A page in this memory, as it is: nothing is verified. `InvalidPageSize` for a length that is none.
    pub fn from_buf(bytes: AlignedBuf) -> PageResult<Self> {
        let size = PageSize::new(bytes.len())?;
        Ok(Self { bytes, size })
    }

    fn put(&mut self, at: usize, value: u64) {
        debug_assert!(at < CHECKSUM_AT);
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}
