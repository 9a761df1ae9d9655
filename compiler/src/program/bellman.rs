//! Schedules by dynamic programming (BOSS, arXiv 2312.16414): which `k` of many small Euler steps lose least when taken as
//! one.

/// Costs of jumps between the anchors of recorded Euler runs: `costs[i][j]` for `i < j`, the mean over runs of
/// `|x_j - (x_i + (t_j - t_i) v_i)|^2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    anchors: usize,
    sums: Vec<f64>,
    runs: usize,
}

impl Costs {
    /// Costs over `times.len()` anchors, of no run yet.
    pub fn new(anchors: usize) -> Costs {
        Costs { anchors, sums: vec![0.0; anchors * anchors], runs: 0 }
    }

    /// Adds a run: `states` holds one frame for each anchor, `velocities` one less.
    ///
    /// # Panics
    /// When the lengths are not those of the anchors: a defect of the caller.
    pub fn add(&mut self, times: &[f64], states: &[f32], velocities: &[f32]) {
        let n = states.len() / self.anchors;
        assert!(times.len() == self.anchors && velocities.len() == n * (self.anchors - 1));
        for i in 0..self.anchors - 1 {
            let (from, v) = (&states[i * n..][..n], &velocities[i * n..][..n]);
            for j in i + 1..self.anchors {
                let h = times[j] - times[i];
                let to = &states[j * n..][..n];
                let distance = |((x, v), y): ((&f32, &f32), &f32)| {
                    let miss = f64::from(*y) - (f64::from(*x) + h * f64::from(*v));
                    miss * miss
                };
                self.sums[i * self.anchors + j] += from.iter().zip(v).zip(to).map(distance).sum::<f64>();
            }
        }
        self.runs += 1;
    }

    /// Costs that are given.
    pub fn from_matrix(anchors: usize, costs: Vec<f64>) -> Costs {
        Costs { anchors, sums: costs, runs: 1 }
    }

    /// The cost of a jump.
    pub fn of(&self, i: usize, j: usize) -> f64 {
        self.sums[i * self.anchors + j] / self.runs.max(1) as f64
    }

    /// The cost of a schedule.
    pub fn sum(&self, anchors: &[usize]) -> f64 {
        anchors.windows(2).map(|w| self.of(w[0], w[1])).sum()
    }

    /// The anchors of the cheapest schedule of `steps` steps from the first anchor to the last, `steps + 1` of them; `None`
    /// if there are fewer anchors.
    ///
    /// `V(i, 1) = c(i, last)`, `V(i, k) = min over j of c(i, j) + V(j, k - 1)`; of equal costs the earlier anchor wins.
    pub fn schedule(&self, steps: usize) -> Option<Vec<usize>> {
        let last = self.anchors.checked_sub(1)?;
        if steps == 0 || steps > last {
            return None;
        }
        // value[k - 1][i], and the next anchor.
        let mut value = vec![(0..last).map(|i| (self.of(i, last), last)).collect::<Vec<_>>()];
        for k in 2..=steps {
            let before = &value[k - 2];
            let row = (0..last)
                .map(|i| {
                    (i + 1..last)
                        .map(|j| (self.of(i, j) + before[j].0, j))
                        .fold((f64::INFINITY, last), |best, one| if one.0 < best.0 { one } else { best })
                })
                .collect();
            value.push(row);
        }
        let mut out = vec![0];
        for k in (1..=steps).rev() {
            let at = *out.last()?;
            out.push(value[k - 1].get(at)?.1);
        }
        (out.last() == Some(&last)).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowlet_kernels::noise::element_f32;

    /// The cheapest of all schedules, tried one by one.
    fn brute(costs: &Costs, from: usize, last: usize, steps: usize) -> f64 {
        if steps == 1 {
            return costs.of(from, last);
        }
        (from + 1..last).map(|j| costs.of(from, j) + brute(costs, j, last, steps - 1)).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn equals_brute_force_on_random_costs() {
        for last in 1..=8 {
            let anchors = last + 1;
            for seed in 0..20 {
                let random = |i| f64::from(element_f32(seed, last as u32, i as u32).abs());
                let costs = Costs::from_matrix(anchors, (0..anchors * anchors).map(random).collect());
                for steps in 1..=last {
                    let schedule = costs.schedule(steps).unwrap();
                    assert_eq!((schedule.len(), schedule[0], schedule[steps]), (steps + 1, 0, last));
                    assert!(schedule.windows(2).all(|w| w[0] < w[1]));
                    let best = brute(&costs, 0, last, steps);
                    assert!((costs.sum(&schedule) - best).abs() < 1e-12, "{last} {seed} {steps}");
                }
                assert_eq!(costs.schedule(last + 1), None);
            }
        }
    }

    #[test]
    fn neighbours_cost_nothing() {
        // Two Euler steps of one dimension: 0 -> 0.5 -> 0.25.
        let mut costs = Costs::new(3);
        costs.add(&[0.0, 0.5, 1.0], &[0.0, 0.5, 0.25], &[1.0, -0.5]);
        assert_eq!((costs.of(0, 1), costs.of(1, 2)), (0.0, 0.0));
        assert!((costs.of(0, 2) - 0.75 * 0.75).abs() < 1e-12);
    }
}
