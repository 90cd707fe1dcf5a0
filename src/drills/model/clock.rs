//! One clock for a run, and what the prober's clock says in its terms.

use std::{collections::VecDeque, time::Instant};

use super::history::Micros;

/// The run's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Starts the clock.
    pub fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    /// The microseconds since the clock started.
    pub fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// How many samples count: one a second, so that a slow drift is followed.
const SAMPLES: usize = 60;

/// The difference between the prober's clock and the run's, from questions and answers.
///
/// An answer's time lies between that of the question and that of its arrival; the sample with the shortest
/// way is the best, and half its way is the largest error.
#[derive(Debug, Default)]
pub struct Offset {
    /// (length of the way there and back, prober's time minus run's)
    samples: VecDeque<(Micros, i64)>,
}

impl Offset {
    /// Takes the times of a question and its answer: asked and arrived by the run's clock, `theirs` by the prober's.
    pub fn sample(&mut self, asked: Micros, theirs: Micros, arrived: Micros) {
        let middle = asked.midpoint(arrived);
        self.samples.push_back((arrived.saturating_sub(asked), theirs.cast_signed() - middle.cast_signed()));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Whether the clocks were compared at all.
    pub fn known(&self) -> bool {
        !self.samples.is_empty()
    }

    fn best(&self) -> (Micros, i64) {
        self.samples.iter().min_by_key(|sample| sample.0).copied().unwrap_or_default()
    }

    /// The largest error that a converted time may have.
    pub fn error(&self) -> Micros {
        self.best().0.div_ceil(2)
    }

    /// A time of the prober's clock on the run's.
    pub fn ours(&self, theirs: Micros) -> Micros {
        theirs.checked_add_signed(-self.best().1).unwrap_or(0)
    }

    /// A time of the run's clock on the prober's.
    pub fn theirs(&self, ours: Micros) -> Micros {
        ours.checked_add_signed(self.best().1).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_decides() {
        let mut offset = Offset::default();
        // The prober's clock is 5 s ahead; one answer was held up on its way back.
        offset.sample(1_000_000, 6_000_500, 1_001_000);
        offset.sample(2_000_000, 7_000_100, 2_400_000);
        assert_eq!((offset.ours(9_000_000), offset.theirs(4_000_000), offset.error()), (4_000_000, 9_000_000, 500));
    }

    #[test]
    fn a_prober_that_started_later_is_behind() {
        let mut offset = Offset::default();
        offset.sample(8_000_000, 100, 8_000_200);
        assert_eq!(offset.ours(1_000_000), 9_000_000);
    }
}
