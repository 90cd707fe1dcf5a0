//! A histogram of times in little memory: buckets that grow with the time, as an HDR histogram has them.

/// The buckets between a power of two and the next: a value is known to within one part in so many.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// A histogram of times in microseconds; a quantile is exact to 1/64 of itself.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// By [`bucket`]; as long as the largest time needs.
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    /// Counts a time.
    pub fn record(&mut self, micros: u64) {
        let bucket = bucket(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.largest = self.largest.max(micros);
    }

    /// The time that this share of all does not exceed; 0 where there is none.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.largest);
            }
        }
        0
    }

    /// The largest time.
    pub fn largest(&self) -> u64 {
        self.largest
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return usize::try_from(value).unwrap_or(usize::MAX);
    }
    let exponent = value.ilog2() - STEP_BITS;
    let step = (value >> exponent) - STEPS;
    usize::try_from(u64::from(exponent + 1) * STEPS + step).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let exponent = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_thousand_times() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|n| histogram.record(n * 100));
        for (share, exact) in [(0.5, 50_000), (0.99, 99_000), (1.0, 100_000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found - exact <= exact / 64, "{share}: {found}");
        }
        assert_eq!((histogram.quantile(0.0), histogram.largest()), (100, 100_000));
    }

    proptest! {
        #[test]
        fn a_value_is_within_its_bucket(value in 0..1u64 << 40) {
            let bucket = bucket(value);
            prop_assert!(value <= upper(bucket) && upper(bucket) - value <= value / STEPS);
            prop_assert!(bucket == 0 || upper(bucket - 1) < value);
        }
    }
}
