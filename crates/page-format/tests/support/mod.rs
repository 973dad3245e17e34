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

/// What can befall a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// One bit is another.
    Bit,
    /// Up to 32 bits in a row, the first and the last of them for sure.
    Burst,
    /// Up to 16 bytes, anywhere.
    Scattered,
    /// Two pages of a file stand in each other's place.
    Exchanged,
    /// A page of another file.
    Foreign,
    /// From some sector on it is another page, of either file.
    Torn,
    /// The file ends inside it.
    Truncated,
}

impl Damage {
    pub(crate) const ALL: [Damage; 7] = [
        Self::Bit,
        Self::Burst,
        Self::Scattered,
        Self::Exchanged,
        Self::Foreign,
        Self::Torn,
        Self::Truncated,
    ];

    /// One of them; those of which there are the most come most often.
    pub(crate) fn any(random: &mut Random) -> Self {
        match random.below(16) {
            0 => Self::Exchanged,
            1 => Self::Foreign,
            2 => Self::Torn,
            3 => Self::Truncated,
            4..8 => Self::Bit,
            8..11 => Self::Scattered,
            _ => Self::Burst,
        }
    }
}

/// Damages of each kind, by its place in [`Damage::ALL`], and whether one was believed or told as something else.
pub(crate) struct Tally {
    pub(crate) counts: [u64; Damage::ALL.len()],
    pub(crate) undetected: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { counts: [0; Damage::ALL.len()], undetected: 0 }
    }

    /// One random damage.
    pub(crate) fn strike(&mut self, files: &mut Files, random: &mut Random) {
        let damage = Damage::any(random);
        self.counts[damage as usize] += 1;
        self.undetected += u64::from(!files.tells(damage, random));
    }

    pub(crate) fn damages(&self) -> u64 {
        self.counts.iter().sum()
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

    /// Bits of a page.
    pub(crate) fn bits(&self) -> u64 {
        self.size as u64 * 8
    }

    /// Does this to some page, and gives whether reading it is the error that it must be.
    pub(crate) fn tells(&mut self, damage: Damage, random: &mut Random) -> bool {
        match damage {
            Damage::Bit => {
                let at = random.below(self.bits());
                self.burst(at, 1, random)
            }
            Damage::Burst => {
                let len = 2 + random.below(31);
                let from = random.below(self.bits() - len + 1);
                self.burst(from, len, random)
            }
            Damage::Scattered => self.scattered(random),
            Damage::Exchanged => {
                let id = random.below(PAGES);
                let other = (id + 1 + random.below(PAGES - 1)) % PAGES;
                self.stands_for(id, other) && self.stands_for(other, id)
            }
            Damage::Foreign => {
                let (id, other) = (random.below(PAGES), random.below(PAGES));
                is_mismatch(self.read(id, &self.pages[1][other as usize]), id)
            }
            Damage::Torn => self.torn(random),
            Damage::Truncated => self.truncated(random.below(4096) as usize),
        }
    }

    fn read(&self, id: u64, bytes: &[u8]) -> PageResult<()> {
        self.checksums[0].verify(PageId::new(id), bytes).map(drop)
    }

    /// Flips the bits `from..from + len` of a page, the first and the last for sure and each between by lot; gives whether that was
    /// told as what it is.
    pub(crate) fn burst(&mut self, from: u64, len: u64, random: &mut Random) -> bool {
        let id = random.below(PAGES);
        let bits = (random.next() | 1 | 1 << (len - 1)) & (u64::MAX >> (64 - len));
        let masks = (bits << (from % 8)).to_le_bytes();
        let first = (from / 8) as usize;
        let flip =
            |page: &mut [u8]| page[first..].iter_mut().zip(masks).for_each(|(byte, mask)| *byte ^= mask);
        flip(&mut self.pages[0][id as usize]);
        let told = self.read(id, &self.pages[0][id as usize]);
        flip(&mut self.pages[0][id as usize]);
        is_told(told, id, first)
    }

    /// Some bytes are others.
    fn scattered(&mut self, random: &mut Random) -> bool {
        let id = random.below(PAGES);
        let mut flips = [(usize::MAX, 0); 16];
        let count = 1 + random.below(16) as usize;
        for at in 0..count {
            let place = random.below(self.size as u64) as usize;
            if flips[..at].iter().all(|(before, _)| *before != place) {
                flips[at] = (place, 1 + random.below(255) as u8);
            }
        }
        let flips = flips.map(|(place, mask)| if mask == 0 { (0, 0) } else { (place, mask) });
        let page = &mut self.pages[0][id as usize];
        flips.iter().for_each(|(at, mask)| page[*at] ^= mask);
        let told = self.read(id, &self.pages[0][id as usize]);
        let page = &mut self.pages[0][id as usize];
        flips.iter().for_each(|(at, mask)| page[*at] ^= mask);
        let first = flips.iter().filter(|(_, mask)| *mask != 0).map(|(at, _)| *at).min();
        is_told(told, id, first.expect("one byte at least"))
    }

    /// Whether page `other` in the place of page `id` is told as that.
    fn stands_for(&self, id: u64, other: u64) -> bool {
        let told = self.read(id, &self.pages[0][other as usize]);
        matches!(told, Err(PageError::MisdirectedPage { requested, found }) if (requested.get(), found.get()) == (id, other))
    }

    fn torn(&self, random: &mut Random) -> bool {
        let (id, file) = (random.below(PAGES), random.below(2));
        let other = (id + 1 + random.below(PAGES - 1)) % PAGES;
        let at = 512 * (1 + random.below(self.size as u64 / 512 - 1)) as usize;
        let mut bytes = self.pages[0][id as usize].clone();
        bytes[at..].copy_from_slice(&self.pages[file as usize][other as usize][at..]);
        is_mismatch(self.read(id, &bytes), id)
    }

    /// A page that ends early, at any length below the least page.
    pub(crate) fn truncated(&self, len: usize) -> bool {
        let told = Page::from_bytes(&self.pages[0][0][..len], PageId::new(0), &self.checksums[0]);
        matches!(told, Err(PageError::ShortRead { got, .. }) if got == len)
    }
}

fn is_mismatch(told: PageResult<()>, id: u64) -> bool {
    matches!(told, Err(PageError::ChecksumMismatch { page_id, .. }) if page_id.get() == id)
}

/// Whether damage whose first byte is this was told as what it is: magic, version, anything else.
fn is_told(told: PageResult<()>, id: u64, first: usize) -> bool {
    match first {
        0 | 1 => matches!(told, Err(PageError::BadMagic { .. })),
        2 => matches!(told, Err(PageError::UnsupportedVersion { .. })),
        _ => is_mismatch(told, id),
    }
}
