//! Which regions are known, and the one whose map page is being read or made.
//!
//! Invariant: a region's bits are taken in once, so nothing that happens to a known region can be undone by a late load;
//! and at most one region is in progress.
//!
//! ```text
//!   region   0 ..... low ................ tail ..... count
//!            known    unknown             known      not formatted
//! ```
//!
//! Region 0 says how many there are. The last one comes next, because behind its highest id the file grows. The others
//! follow from below, a few at a time.

/// The regions of one file.
#[derive(Debug)]
pub(crate) struct Regions {
    /// How many are formatted; unknown until region 0 was asked for.
    count: Option<u64>,
    /// Below it all are known.
    low: u64,
    /// From it to `count` all are known.
    tail: u64,
    in_progress: Option<InProgress>,
}

/// A region that some thread reads or formats, with no lock held.
#[derive(Debug)]
struct InProgress {
    region: u64,
    /// Runs of it that became free meanwhile: the bits that are being read may be older than that.
    released: Vec<(u64, u64)>,
}

impl Regions {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self { count: None, low: 0, tail: 0, in_progress: None }
    }

    /// How many are formatted.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count
    }

    /// Whether a region's bits have been taken in.
    pub(crate) fn is_known(&self, region: u64) -> bool {
        self.count.is_some_and(|count| region < count && (region < self.low || region >= self.tail))
    }

    /// The region without which nothing can be reserved: the first, then the last.
    pub(crate) fn must_load(&self) -> Option<u64> {
        match self.count {
            None => Some(0),
            Some(count) if self.low < count && self.tail == count => Some(count - 1),
            Some(_) => None,
        }
    }

    /// The lowest unknown region, once the first and the last are known.
    pub(crate) fn lowest_unknown(&self) -> Option<u64> {
        (self.must_load().is_none() && self.low < self.tail).then_some(self.low)
    }

    /// Region 0 was never formatted: the file is new.
    pub(crate) fn set_empty(&mut self) {
        debug_assert_eq!(self.count, None);
        self.count = Some(0);
    }

    /// Takes note that a region's bits have been taken in; `regions` is what region 0 says.
    pub(crate) fn set_known(&mut self, region: u64, regions: Option<u64>) {
        let count = match self.count {
            Some(count) => count,
            None => {
                let count = regions.expect("region 0 comes first and counts the regions");
                self.tail = count;
                *self.count.insert(count)
            }
        };
        debug_assert!(!self.is_known(region) && region < count);
        if region == self.low {
            self.low += 1;
        } else {
            debug_assert_eq!(region + 1, self.tail);
            self.tail = region;
        }
    }

    /// Takes note that the region behind the last one was formatted.
    pub(crate) fn set_formatted(&mut self, region: u64) {
        debug_assert_eq!(self.count, Some(region));
        if self.low == region {
            self.low = region + 1;
            self.tail = region + 1;
        }
        self.count = Some(region + 1);
    }

    /// Takes note that the last region is no more.
    pub(crate) fn set_dropped(&mut self, region: u64) {
        debug_assert!(self.count == Some(region + 1) && region > 0);
        self.count = Some(region);
        self.low = self.low.min(region);
        self.tail = self.tail.min(region);
    }

    /// Whether some region is in progress.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_progress.is_some()
    }

    /// Puts a region in progress; nothing else is.
    pub(crate) fn begin(&mut self, region: u64) {
        debug_assert!(self.in_progress.is_none());
        self.in_progress = Some(InProgress { region, released: Vec::new() });
    }

    /// Remembers a run that became free, if its region is in progress.
    pub(crate) fn note_released(&mut self, region: u64, start: u64, len: u64) {
        if let Some(busy) = &mut self.in_progress
            && busy.region == region
        {
            busy.released.push((start, len));
        }
    }

    /// The runs that became free since the region was put in progress.
    pub(crate) fn take_released(&mut self) -> Vec<(u64, u64)> {
        self.in_progress.as_mut().map(|busy| std::mem::take(&mut busy.released)).unwrap_or_default()
    }

    /// Ends the progress, whatever became of it.
    pub(crate) fn end(&mut self) {
        self.in_progress = None;
    }
}
