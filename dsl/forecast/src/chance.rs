//! Chance without a state: a number for each (seed, trial, step, call), whichever is asked for first.

/// A counter-based generator. Two sheets that share a step share its luck, so that their difference is not noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dice {
    seed: u64,
}

/// 2^64 divided by the golden ratio: steps of it reach everywhere.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// 2^-53: the distance of two doubles below one.
const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;

/// The finalizer of SplitMix64: every bit of the result depends on every bit given.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Dice {
    /// Equal seeds give equal numbers.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn draw(self, trial: u32, what: u64, call: u32) -> f64 {
        let word = mix(self.seed.wrapping_add(GOLDEN) ^ what);
        let word = mix(word.wrapping_add(GOLDEN) ^ (u64::from(trial) << 32 | u64::from(call)));
        (word >> 11) as f64 * UNIT
    }
}

/// FNV-1a: a step by its name, the same in every sheet and every build.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_and_repeatable() {
        let dice = Dice::new(7);
        let mut buckets = [0_u32; 10];
        for trial in 0..10_000 {
            let number = dice.draw(trial, name_hash("db.start/db"), 0);
            assert_eq!(number, Dice::new(7).draw(trial, name_hash("db.start/db"), 0));
            buckets[(number * 10.0) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (900..1_100).contains(count)), "{buckets:?}");
    }

    #[test]
    fn steps_trials_and_calls_are_independent() {
        let dice = Dice::new(7);
        let pairs = [((0, 1), (0, 2)), ((0, 1), (1, 1))];
        for ((trial, what), (other, else_what)) in pairs {
            assert_ne!(dice.draw(trial, what, 0), dice.draw(other, else_what, 0));
        }
        // The mean of products of independent numbers is that of their means.
        let product: f64 = (0..10_000).map(|trial| dice.draw(trial, 1, 0) * dice.draw(trial, 1, 1)).sum();
        assert!((product / 10_000.0 - 0.25).abs() < 0.01, "{product}");
        assert_ne!(Dice::new(7).draw(0, 1, 0), Dice::new(8).draw(0, 1, 0));
    }
}
