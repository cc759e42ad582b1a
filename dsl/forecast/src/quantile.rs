//! Quantiles of weighted values.

/// Values by size, each with the share of all weight up to and with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Weighted(Vec<(f64, u64)>);

impl Weighted {
    /// Weights that are not above zero are left out.
    pub(crate) fn new(values: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let mut values: Vec<(u64, f64)> = values.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        values.sort_by_key(|(value, _)| *value);
        let all: f64 = values.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let share = |(value, weight): (u64, f64)| {
            sum += weight;
            (sum / all, value)
        };
        Self(values.into_iter().map(share).collect())
    }
    pub(crate) fn one(value: u64) -> Self {
        Self(vec![(1.0, value)])
    }
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The smallest value with at least this share of the weight below or at it; 0 of nothing.
    pub(crate) fn at(&self, share: f64) -> u64 {
        let place = self.0.partition_point(|(sum, _)| *sum < share);
        self.0.get(place).or(self.0.last()).map_or(0, |(_, value)| *value)
    }
}

/// The value at a share of a sorted list: the nearest rank, as people count.
pub(crate) fn nearest_rank(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).or(sorted.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_move_the_median() {
        assert_eq!(Weighted::new([(30, 1.0), (10, 1.0), (20, 1.0)]).at(0.5), 20);
        assert_eq!(Weighted::new([(30, 5.0), (10, 1.0), (20, 1.0)]).at(0.5), 30);
        assert_eq!(Weighted::new([(30, 1.0), (10, 1.0), (20, 1.0)]).at(1.0), 30);
        assert_eq!(Weighted::new([(30, 1.0), (10, 0.0)]).at(0.0), 30);
        assert_eq!(Weighted::default().at(0.5), 0);
    }

    #[test]
    fn ranks_are_those_people_count() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!((nearest_rank(&sorted, 0.5), nearest_rank(&sorted, 0.95)), (Some(50), Some(95)));
        assert_eq!((nearest_rank(&[7], 0.95), nearest_rank(&[], 0.5)), (Some(7), None));
    }
}
