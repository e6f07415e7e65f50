//! How long sends stall.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles of a stall, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StallMicros {
    /// The median.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1000 are at most this.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// Sends that a producer held back after it had accepted them, until a client took them, by its own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldUp {
    /// How many.
    pub count: u64,
    /// For how long, of these alone.
    pub at_most: StallMicros,
}

/// Percentiles over all sends of a run: `accepting` is how long each `send` took to accept its record, and some were
/// held up besides. Of the latter only percentiles are known, so that the next known one above stands for what lies
/// between. Nor is it known which send was held up: one that had waited for room before counts with the longer of the two
/// times, and not with both.
pub fn over_all(accepting: &Histogram<u64>, held_up: HeldUp) -> StallMicros {
    let quantile = |share: f64| {
        let plain = accepting.value_at_quantile(share);
        let above = (1.0 - share) * accepting.len() as f64;
        if above >= held_up.count as f64 {
            return plain;
        }
        let within = 1.0 - above / held_up.count as f64;
        let held = match within {
            within if within <= 0.5 => held_up.at_most.p50,
            within if within <= 0.99 => held_up.at_most.p99,
            within if within <= 0.999 => held_up.at_most.p999,
            _ => held_up.at_most.max,
        };
        plain.max(held)
    };
    StallMicros {
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: accepting.max().max(held_up.at_most.max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand_of(value: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record_n(value, 1_000).unwrap();
        histogram
    }

    #[test]
    fn sends_that_were_held_up_count_among_all() {
        let held = StallMicros { p50: 400, p99: 800, p999: 900, max: 950 };
        let all = over_all(&thousand_of(2), HeldUp { count: 5, at_most: held });
        // Five of a thousand: they reach into the last thousandth, not into the last hundredth.
        assert_eq!(all, StallMicros { p50: 2, p99: 2, p999: 800, max: 950 });
        let all = over_all(&thousand_of(2), HeldUp { count: 100, at_most: held });
        assert_eq!(all, StallMicros { p50: 2, p99: 800, p999: 800, max: 950 });
        let all = over_all(&thousand_of(2), HeldUp::default());
        assert_eq!(all, StallMicros { p50: 2, p99: 2, p999: 2, max: 2 });
    }
}
