//! A set of processors.
//!
//! Invariant: the numbers rise and none is there twice; what is written is read as the same set.

use std::fmt;
use std::str::FromStr;

/// Processors by the system's numbers; written as Linux writes them: `0-3,8`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CpuSet(Vec<u32>);

/// Numbers from here on are refused: no Linux knows so many processors.
pub(crate) const MAX_CPUS: u32 = 8192;

impl CpuSet {
    /// The numbers, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Whether the processor is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut cpus: Vec<u32> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }
}

impl FromStr for CpuSet {
    type Err = String;

    /// Reads `0-3,8`. The error is what was found there.
    fn from_str(list: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        let number = |text: &str| match text.parse::<u32>() {
            Ok(cpu) if cpu < MAX_CPUS => Ok(cpu),
            _ => Err(text.to_owned()),
        };
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(part.to_owned());
            }
            cpus.extend(first..=last);
        }
        Ok(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, run) in self.0.chunk_by(|low, high| low + 1 == *high).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (list, cpus) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            ("1,3-4,6-7,8191", vec![1, 3, 4, 6, 7, 8191]),
        ] {
            let set: CpuSet = format!("{list}\n").parse().expect("a list");
            assert_eq!((set.iter().collect::<Vec<_>>(), set.to_string()), (cpus, list.to_owned()));
        }
        let set: CpuSet = [9, 2, 9, 3].into_iter().collect();
        assert_eq!(
            (set.to_string(), set.len(), set.contains(9), set.contains(4)),
            ("2-3,9".into(), 3, true, false)
        );
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (list, found) in [("a", "a"), ("0,-", ""), ("3-1", "3-1"), ("0-8192", "8192"), ("1,2-x", "x")] {
            assert_eq!(list.parse::<CpuSet>(), Err(found.to_owned()), "{list}");
        }
    }
}
