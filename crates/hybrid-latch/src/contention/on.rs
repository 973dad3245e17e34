//! The counters. Only who has waited comes here, and a wait is long beside a lock that is hardly ever held.

use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Instant;

use pagestone_sync::Mutex;
use pagestone_telemetry::Counter;

use super::{WaitKind, WaitSite, Waits};

/// Who waited for the latches of one owner.
#[derive(Debug, Default)]
pub struct Contention {
    optimistic: Counter,
    shared: Counter,
    exclusive: Counter,
    nanoseconds: Counter,
    /// As many as there are lines that ask for latches.
    sites: Mutex<BTreeMap<(Line, WaitKind), WaitSite>>,
}

/// Where a line is: locations of one line in two instances of generic code are two.
type Line = (&'static str, u32, u32);

impl Contention {
    /// Nobody has waited yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often somebody waited until now.
    pub fn waits(&self) -> Waits {
        Waits {
            optimistic: self.optimistic.value(),
            shared: self.shared.value(),
            exclusive: self.exclusive.value(),
            nanoseconds: self.nanoseconds.value(),
        }
    }

    /// The sites where the waits were longest in sum, longest first, `most` of them at most.
    pub fn top_sites(&self, most: usize) -> Vec<WaitSite> {
        let mut sites: Vec<WaitSite> = self.sites.lock().values().copied().collect();
        sites.sort_by_key(|site| std::cmp::Reverse(site.nanoseconds));
        sites.truncate(most);
        sites
    }

    #[cold]
    pub(super) fn counted<T>(
        &self,
        kind: WaitKind,
        at: &'static Location<'static>,
        wait: impl FnOnce() -> T,
    ) -> T {
        let began = Instant::now();
        let answer = wait();
        let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match kind {
            WaitKind::Optimistic => &self.optimistic,
            WaitKind::Shared => &self.shared,
            WaitKind::Exclusive => &self.exclusive,
        }
        .inc();
        self.nanoseconds.add(nanoseconds);
        let mut sites = self.sites.lock();
        let site = sites.entry(((at.file(), at.line(), at.column()), kind)).or_insert(WaitSite {
            at,
            kind,
            waits: 0,
            nanoseconds: 0,
        });
        site.waits += 1;
        site.nanoseconds = site.nanoseconds.saturating_add(nanoseconds);
        answer
    }
}
