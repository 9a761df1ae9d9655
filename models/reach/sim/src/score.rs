//! How often policies succeed, which ways they take, and how far int8 is from f32.

use crate::episode::{Chunk, EXECUTED, Observation, Outcome, attempt};
use crate::expert::Side;
use crate::policy::Policy;
use crate::scene::{Scene, Split};
use flowlet_score::{Progress, map_samples};
use std::num::NonZeroUsize;

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share found.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// Wilson's interval (1927) for a share found in `scenes` independent scenes. The mean over several attempts at each
    /// scene varies less than one attempt does, so that the interval is on the safe side for it.
    pub fn wilson(share: f64, scenes: usize) -> Self {
        let (n, z) = (scenes.max(1) as f64, 1.959_964);
        let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * libm::sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n));
        Share { share, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
    }
}

/// Which attempts are made.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Number of the first held-out scene.
    pub first: usize,
    /// How many scenes there are.
    pub scenes: usize,
    /// Attempts at each scene, with noise of their own.
    pub seeds: usize,
    /// Threads of this host.
    pub threads: NonZeroUsize,
}

/// How a policy did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Goal reached without touching the post.
    pub success: Share,
    /// The post touched.
    pub touched: Share,
    /// Scenes in which some attempt succeeded on the left and some other on the right.
    pub both_ways: Share,
    /// Actions until the goal, mean over successful attempts.
    pub actions: f64,
    /// Attempts at each scene.
    pub seeds: usize,
}

/// Difference between two policies that see the same and read the same noise, rad.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Largest difference of one action.
    pub worst: f64,
    /// 99th percentile over all actions.
    pub p99: f64,
    /// Median over all actions.
    pub median: f64,
    /// Largest difference of a joint's angle after the actions of a chunk that are executed.
    pub worst_angle: f64,
    /// 99th percentile of the same over all chunks.
    pub p99_angle: f64,
    /// Chunks compared.
    pub chunks: usize,
}

/// The noise of a call: no two calls of all attempts share it.
fn noise_seed(scene: usize, seed: usize, call: usize) -> u64 {
    ((scene as u64) << 24) | ((seed as u64) << 8) | call as u64
}

/// Attempts at the held-out scenes, in the order of scenes, then seeds.
///
/// # Errors
/// When the network cannot be run.
pub fn attempts(policy: &Policy<'_>, trial: Trial, progress: Progress<'_>) -> anyhow::Result<Vec<Outcome>> {
    map_samples(
        trial.scenes * trial.seeds,
        trial.threads,
        progress,
        || policy.planner(),
        |planner, i| {
            let (scene, seed) = (trial.first + i / trial.seeds, i % trial.seeds);
            attempt(&Scene::draw(Split::Held, scene as u64), |seen, call| {
                planner.plan(seen, noise_seed(scene, seed, call))
            })
        },
    )
}

/// Summary of attempts, `seeds` at each scene.
pub fn summary(outcomes: &[Outcome], seeds: usize) -> Score {
    let scenes = outcomes.len() / seeds.max(1);
    let mean = |holds: &dyn Fn(&Outcome) -> bool| {
        let count = outcomes.iter().filter(|o| holds(o)).count();
        Share::wilson(count as f64 / outcomes.len().max(1) as f64, scenes)
    };
    let both = outcomes.chunks(seeds.max(1)).filter(|scene| {
        [Side::Left, Side::Right].iter().all(|&side| scene.iter().any(|o| o.success() && o.side == Some(side)))
    });
    let good: Vec<f64> = outcomes.iter().filter(|o| o.success()).map(|o| (o.path.len() - 1) as f64).collect();
    Score {
        success: mean(&Outcome::success),
        touched: mean(&|o| o.touched),
        both_ways: Share::wilson(both.count() as f64 / scenes.max(1) as f64, scenes),
        actions: good.iter().sum::<f64>() / good.len().max(1) as f64,
        seeds,
    }
}

/// Compares two policies on all that `driver` sees on its way through the scenes.
///
/// # Errors
/// When a network cannot be run.
pub fn difference(
    driver: &Policy<'_>,
    other: &Policy<'_>,
    trial: Trial,
    progress: Progress<'_>,
) -> anyhow::Result<Difference> {
    let pairs = map_samples(
        trial.scenes * trial.seeds,
        trial.threads,
        progress,
        || (driver.planner(), other.planner()),
        |(driver, other), i| {
            let (scene, seed) = (trial.first + i / trial.seeds, i % trial.seeds);
            let mut pairs: Vec<(Chunk, Chunk)> = Vec::new();
            let plan = |seen: &Observation, call: usize| -> anyhow::Result<Chunk> {
                let noise = noise_seed(scene, seed, call);
                let own = driver.plan(seen, noise)?;
                pairs.push((own, other.plan(seen, noise)?));
                Ok(own)
            };
            attempt(&Scene::draw(Split::Held, scene as u64), plan)?;
            anyhow::Ok(pairs)
        },
    )?;
    let pairs: Vec<(Chunk, Chunk)> = pairs.into_iter().flatten().collect();
    let (mut single, mut summed) = (Vec::new(), Vec::new());
    for (a, b) in &pairs {
        for joint in 0..2 {
            let each = a.iter().zip(b).map(|(a, b)| a[joint] - b[joint]);
            single.extend(each.clone().map(f64::abs));
            summed.push(each.take(EXECUTED).sum::<f64>().abs());
        }
    }
    single.sort_by(f64::total_cmp);
    summed.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], q: f64| {
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
    };
    Ok(Difference {
        worst: at(&single, 1.0),
        p99: at(&single, 0.99),
        median: at(&single, 0.5),
        worst_angle: at(&summed, 1.0),
        p99_angle: at(&summed, 0.99),
        chunks: pairs.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe (1998), table I: 81 of 263 and 0 of 20.
        let share = Share::wilson(81.0 / 263.0, 263);
        assert!((share.low - 0.2553).abs() < 1e-4 && (share.high - 0.3662).abs() < 1e-4, "{share:?}");
        let none = Share::wilson(0.0, 20);
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 1e-4, "{none:?}");
    }

    #[test]
    fn both_ways_needs_success_on_both_sides() {
        let outcome = |arrived, side| Outcome { arrived, touched: false, side: Some(side), path: vec![[0.0; 2]; 3] };
        let scenes = [
            [outcome(true, Side::Left), outcome(true, Side::Right)],
            [outcome(true, Side::Left), outcome(false, Side::Right)],
            [outcome(true, Side::Left), outcome(true, Side::Left)],
            [outcome(true, Side::Right), outcome(true, Side::Left)],
        ];
        let score = summary(&scenes.concat(), 2);
        assert_eq!((score.both_ways.share, score.success.share, score.actions), (0.5, 0.875, 2.0));
    }

    #[test]
    fn no_noise_is_used_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for scene in 0..20 {
            for seed in 0..10 {
                for call in 0..8 {
                    assert!(seen.insert(noise_seed(scene, seed, call)));
                }
            }
        }
    }
}
