//! What a long form is told on its command line: `--seconds N`, `--seed N`, and other numbers of its own.
//!
//! Invariant: all that is random follows from the seed, which is printed as soon as it is asked for; the clock only chooses it where none
//! is given, and says when to stop.

use std::time::{Duration, Instant, SystemTime};

/// A long form under way: an example called `soak_…`, which `cargo xtask soak` runs for as long as it is told.
///
/// ```no_run
/// use pagestone_testkit::Soak;
///
/// let soak = Soak::from_args(&["--operations"])?;
/// let (until, most) = (soak.until(), soak.number("--operations"));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct Soak {
    began: Instant,
    told: Vec<(String, u64)>,
}

impl Soak {
    /// By the arguments of this process. Beside `--seconds N` and `--seed N` it takes a number under each of these names.
    ///
    /// Errors: what was expected, where something else stands.
    pub fn from_args(others: &[&str]) -> Result<Self, String> {
        Self::told(others, std::env::args().skip(1))
    }

    fn told(others: &[&str], arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut told, mut arguments) = (Vec::new(), arguments);
        while let Some(name) = arguments.next() {
            let known = ["--seconds", "--seed"].iter().chain(others);
            if !known.clone().any(|known| *known == name) {
                let known: Vec<String> = known.map(|known| format!("{known} N")).collect();
                return Err(format!("{name}: expected {} or nothing", known.join(", ")));
            }
            let value = arguments.next().ok_or_else(|| format!("{name}: a number is missing"))?;
            told.push((name, value.parse().map_err(|error| format!("{value}: {error}"))?));
        }
        Ok(Self { began: Instant::now(), told })
    }

    /// The number that was given under this name, the last one if there were several.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.told.iter().rev().find(|(told, _)| told == name).map(|(_, number)| *number)
    }

    /// How long to go on: 10 s, if nothing was said.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.number("--seconds").unwrap_or(10))
    }

    /// When that is over.
    pub fn until(&self) -> Instant {
        self.began + self.time()
    }

    /// Whether it is.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until()
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The seed, the clock's if none was given. Prints it, so that it can be given again: to be called once.
    pub fn seed(&self) -> u64 {
        let clock = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| since.as_nanos() as u64)
        };
        let seed = self.number("--seed").unwrap_or_else(clock);
        println!("seed {seed}");
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> Result<Soak, String> {
        Soak::told(&["--operations"], arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn numbers_are_found_by_name_and_the_last_one_counts() {
        let soak = told(&["--seed", "7", "--seconds", "3", "--seed", "8"]).expect("as it should be");
        assert_eq!(
            (soak.time(), soak.seed(), soak.number("--operations")),
            (Duration::from_secs(3), 8, None)
        );
        assert_eq!(told(&[]).expect("nothing").time(), Duration::from_secs(10));
        assert!(told(&["--seconds", "0"]).expect("no time").is_over());
    }

    #[test]
    fn what_is_no_number_or_has_no_name_is_told() {
        let error = |arguments: &[&str]| told(arguments).expect_err("wrong");
        assert_eq!(
            error(&["--hours", "1"]),
            "--hours: expected --seconds N, --seed N, --operations N or nothing"
        );
        assert_eq!(error(&["--seconds"]), "--seconds: a number is missing");
        assert_eq!(error(&["--seed", "x"]), "x: invalid digit found in string");
    }
}
