//! Copies under a throttle, as a fluid: how long a wave of them takes.

/// One replica to copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Move {
    /// The partition's leader: followers fetch from there.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) mib: f64,
    /// What is written to the partition meanwhile, in MiB/s. It has to be copied as well.
    pub(super) written_per_s: f64,
}

/// What a wave of copies came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wave {
    pub(super) seconds: f64,
    /// When each copy was in sync, in the order of the moves.
    pub(super) finished: Vec<f64>,
    pub(super) copied: f64,
}

/// Less than this is nothing.
const NOTHING: f64 = 1e-9;

/// Copies at once whatever there is to copy: each broker sends at most `throttle` MiB/s and receives at most as much, and
/// shares it evenly between its copies (KIP-73). It is passed in steps from one copy's end to the next.
pub(super) fn copy(moves: &[Move], brokers: usize, throttle: f64) -> Result<Wave, String> {
    let mut left: Vec<f64> = moves.iter().map(|one| one.mib).collect();
    let mut active: Vec<usize> = (0..moves.len()).collect();
    let (mut sends, mut receives) = (vec![0_u32; brokers], vec![0_u32; brokers]);
    for one in moves {
        sends[one.from] += 1;
        receives[one.to] += 1;
    }
    let mut wave = Wave { seconds: 0.0, finished: vec![0.0; moves.len()], copied: 0.0 };
    while !active.is_empty() {
        let rate = |one: &Move| throttle / f64::from(sends[one.from].max(receives[one.to]));
        let gain = |index: usize| rate(&moves[index]) - moves[index].written_per_s;
        if active.iter().any(|index| gain(*index) <= 0.0) {
            return Err(format!(
                "{throttle} MiB/s is less than what is written: a copy would never end (KIP-73)"
            ));
        }
        let step = active.iter().map(|index| left[*index] / gain(*index)).fold(f64::INFINITY, f64::min);
        wave.seconds += step;
        for index in &active {
            wave.copied += rate(&moves[*index]) * step;
        }
        let mut done = Vec::new();
        active.retain(|index| {
            left[*index] -= gain(*index) * step;
            let more = left[*index] > NOTHING;
            if !more {
                done.push(*index);
            }
            more
        });
        for index in done {
            wave.finished[index] = wave.seconds;
            sends[moves[index].from] -= 1;
            receives[moves[index].to] -= 1;
        }
    }
    Ok(wave)
}

#[cfg(test)]
mod tests {
    use super::{Move, copy};

    const ONE: Move = Move { from: 0, to: 1, mib: 100.0, written_per_s: 0.0 };

    #[test]
    fn a_broker_shares_its_throttle_between_its_copies() {
        let wave = copy(&[ONE, Move { to: 2, mib: 50.0, ..ONE }], 3, 10.0).unwrap();
        // Five each until the smaller is there after 10 s, then ten for the other's remaining 50.
        assert_eq!(wave.finished, [15.0, 10.0]);
        assert_eq!((wave.seconds, wave.copied), (15.0, 150.0));
    }

    #[test]
    fn what_is_written_meanwhile_is_copied_too() {
        let wave = copy(&[Move { written_per_s: 5.0, ..ONE }], 2, 10.0).unwrap();
        assert_eq!((wave.seconds, wave.copied), (20.0, 200.0));
    }

    #[test]
    fn a_throttle_below_what_is_written_is_an_error_and_no_endless_copy() {
        assert!(copy(&[Move { written_per_s: 10.0, ..ONE }], 2, 10.0).unwrap_err().contains("KIP-73"));
        assert_eq!(copy(&[], 2, 10.0).unwrap().seconds, 0.0);
    }
}
