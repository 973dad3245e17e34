//! Random damage to a page, and the error that each must be.

use pagestone_page_format::{
    ChecksumKind, Lsn, Page, PageChecksum, PageError, PageId, PageResult, PageSize, StoreUuid,
};

/// Numbers by a seed: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Two files of pages, in memory.
pub(crate) struct Files {
    size: usize,
    checksums: [PageChecksum; 2],
    pages: [Vec<Vec<u8>>; 2],
}

/// Pages of each file.
const PAGES: u64 = 8;

impl Files {
    pub(crate) fn new(kind: ChecksumKind, size: usize, random: &mut Random) -> Self {
        let checksums = [3, 4].map(|byte| PageChecksum::new(kind, StoreUuid::new([byte; 16])));
        let pages = checksums.each_ref().map(|checksum| {
            let fill = |id| {
                let mut page = Page::new(PageSize::new(size).expect("a size"), PageId::new(id));
                page.payload_mut().iter_mut().for_each(|byte| *byte = random.next() as u8);
                page.set_lsn(Lsn::new(random.next() >> 1));
                page.to_checksummed_bytes(checksum).to_vec()
            };
            (0..PAGES).map(fill).collect()
        });
        Self { size, checksums, pages }
    }

    fn read(&self, id: u64, bytes: &[u8]) -> PageResult<()> {
        self.checksums[0].verify(PageId::new(id), bytes).map(drop)
    }

    /// Flips the bits `from..from + len` of a page, the first and the last for sure and each between by lot; gives whether that was
    /// told as what it is.
    pub(crate) fn burst(&mut self, len: u64, random: &mut Random) -> bool {
        let id = random.below(PAGES);
        let from = random.below(self.size as u64 * 8 - len + 1);
        let bits = random.next() | 1 | 1 << (len - 1);
        let flips: Vec<(usize, u8)> = (0..len)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(|bit| (((from + bit) / 8) as usize, 1 << ((from + bit) % 8)))
            .collect();
        let page = &mut self.pages[0][id as usize];
        flips.iter().for_each(|(at, mask)| page[*at] ^= mask);
        let told = self.read(id, &self.pages[0][id as usize]);
        let page = &mut self.pages[0][id as usize];
        flips.iter().for_each(|(at, mask)| page[*at] ^= mask);
        match flips[0].0 {
            0 | 1 => matches!(told, Err(PageError::BadMagic { .. })),
            2 => matches!(told, Err(PageError::UnsupportedVersion { .. })),
            _ => matches!(told, Err(PageError::ChecksumMismatch { page_id, .. }) if page_id.get() == id),
        }
    }

    /// Another page of the same file in its place.
    pub(crate) fn misdirected(&self, random: &mut Random) -> bool {
        let id = random.below(PAGES);
        let other = (id + 1 + random.below(PAGES - 1)) % PAGES;
        let told = self.read(id, &self.pages[0][other as usize]);
        matches!(told, Err(PageError::MisdirectedPage { requested, found }) if (requested.get(), found.get()) == (id, other))
    }

    /// A page of the other file in its place, the right one or not.
    pub(crate) fn foreign(&self, random: &mut Random) -> bool {
        let (id, other) = (random.below(PAGES), random.below(PAGES));
        matches!(self.read(id, &self.pages[1][other as usize]), Err(PageError::ChecksumMismatch { .. }))
    }

    /// The rest of the page from some sector on is that of another page, of either file: a tear.
    pub(crate) fn torn(&self, random: &mut Random) -> bool {
        let (id, file) = (random.below(PAGES), random.below(2));
        let other = (id + 1 + random.below(PAGES - 1)) % PAGES;
        let at = 512 * (1 + random.below(self.size as u64 / 512 - 1)) as usize;
        let mut bytes = self.pages[0][id as usize].clone();
        bytes[at..].copy_from_slice(&self.pages[file as usize][other as usize][at..]);
        matches!(self.read(id, &bytes), Err(PageError::ChecksumMismatch { .. }))
    }

    /// A page that ends early, at any length.
    pub(crate) fn truncated(&self, len: usize) -> bool {
        let told = Page::from_bytes(&self.pages[0][0][..len], PageId::new(0), &self.checksums[0]);
        matches!(told, Err(PageError::ShortRead { got, .. }) if got == len)
    }
}
