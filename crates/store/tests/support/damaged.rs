//! A closed store on a simulated disk, to be damaged: pages are changed under right checksums, or bytes flipped.

use pagestone_direct_io::Disk;
use pagestone_page_format::slotted::{SlottedPage, SlottedWriter};
use pagestone_page_format::{ChecksumKind, PageChecksum, PageId, PageWriter, SpeculativePage, StoreUuid};
use pagestone_store::VerifyReport;
use pagestone_swip::SwipWord;
use pagestone_sync::atomic::AtomicU64;
use pagestone_testkit::{Keep, SimDisk};

use super::open;

pub const DATA: &str = "/store/data";
pub const PAGE: usize = 4096;
/// Where the slotted area of a node begins.
pub const AREA: usize = 48;

/// A closed store on a simulated disk, to be damaged.
pub struct Damaged {
    pub disk: SimDisk,
}

impl Damaged {
    pub fn copy_of(disk: &SimDisk) -> Self {
        Self { disk: disk.power_cut(Keep::Everything) }
    }

    pub fn file(&self) -> Vec<u8> {
        self.disk.contents(DATA).expect("read")
    }

    pub fn pages(&self) -> u64 {
        ((self.file().len() - 2 * PAGE) / PAGE) as u64
    }

    pub fn checksum(&self) -> PageChecksum {
        let file = self.file();
        let uuid = StoreUuid::new(file[16..32].try_into().expect("sixteen bytes"));
        PageChecksum::new(ChecksumKind::from_number(file[72]).expect("a kind"), uuid)
    }

    pub fn words(&self, page: u64) -> Vec<AtomicU64> {
        let at = 2 * PAGE + page as usize * PAGE;
        let file = self.file();
        let (words, _) = file[at..at + PAGE].as_chunks::<8>();
        words.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect()
    }

    /// Changes a page and stamps it, so that its checksum is right.
    pub fn rewrite(&self, page: u64, change: impl FnOnce(&PageWriter<'_>)) {
        let words = self.words(page);
        let writer = PageWriter::new(&words);
        change(&writer);
        let mut bytes = vec![0; PAGE];
        writer.read().copy_out(&mut bytes);
        self.checksum().stamp(&mut bytes);
        self.disk.overwrite(DATA, (2 * PAGE + page as usize * PAGE) as u64, &bytes).expect("overwritten");
    }

    pub fn flip(&self, at: usize) {
        let old = self.file()[at];
        self.disk.overwrite(DATA, at as u64, &[old ^ 0x10]).expect("overwritten");
    }

    pub fn in_use(&self, page: u64) -> bool {
        self.words(0)[6 + page as usize / 64].load(std::sync::atomic::Ordering::Relaxed) >> (page % 64) & 1
            == 1
    }

    pub fn free_page(&self) -> u64 {
        (0..self.pages()).find(|page| !self.in_use(*page)).expect("a free page")
    }

    pub fn area<T>(&self, page: u64, look: impl FnOnce(SlottedPage<'_>) -> T) -> T {
        look(SlottedPage::new(SpeculativePage::new(&self.words(page)), AREA))
    }

    /// Pages of the children of an inner node.
    pub fn children(&self, page: u64) -> Vec<u64> {
        self.area(page, |area| {
            (1..area.link_count().expect("a node"))
                .map(|link| SwipWord::from_raw(area.link(link).expect("a link")).page_id().get())
                .collect()
        })
    }

    pub fn set_link(&self, page: u64, link: usize, to: u64) {
        self.rewrite(page, |writer| {
            let swip = SwipWord::new(PageId::new(to)).expect("an id");
            SlottedWriter::new(*writer, AREA).set_link(link, swip.raw()).expect("a link");
        });
    }

    /// Opened without mending what has a copy elsewhere.
    pub fn verify(&self) -> VerifyReport {
        self.disk.remove_file(std::path::Path::new("/store/doublewrite")).expect("removed");
        open(&self.disk).expect("opens").verify().expect("verification ends")
    }
}
