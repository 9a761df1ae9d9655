//! Scenes: where the arm starts, where its tool shall go, and the post between both.

use crate::kinematics::{Vec2, add, inverse, length, unit};
use crate::rng::Rng;

/// Radius of the tool, a peg that reaches down among the posts, m.
pub const TOOL_RADIUS: f64 = 0.012;
/// Distance from the shoulder within which the tool works, m.
pub const REACH: [f64; 2] = [0.2, 0.5];

/// One task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// Joint angles at the start, rad; the arm is at rest.
    pub start: [f64; 2],
    /// Where the tool starts, m.
    pub from: Vec2,
    /// Where the tool shall stop, m.
    pub goal: Vec2,
    /// Centre of the post, m.
    pub post: Vec2,
    /// Radius of the post, m.
    pub radius: f64,
}

/// Which scenes a seed draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For demonstrations.
    Train,
    /// For scores.
    Held,
}

impl Scene {
    /// Scene number `seed`: the post lies within 1 cm of the straight way, so that both ways around it are as good.
    pub fn draw(split: Split, seed: u64) -> Self {
        let mut rng = Rng::new(seed, split as u64);
        loop {
            let post = add([0.0; 2], rng.between(0.32, 0.38), unit(rng.between(-1.0, 1.0)));
            let radius = rng.between(0.025, 0.045);
            let way = rng.between(-std::f64::consts::PI, std::f64::consts::PI);
            let (ahead, left) = (unit(way), unit(way + std::f64::consts::FRAC_PI_2));
            let offset = |rng: &mut Rng| rng.between(-0.01, 0.01);
            let from = add(add(post, -rng.between(0.13, 0.21), ahead), offset(&mut rng), left);
            let goal = add(add(post, rng.between(0.13, 0.21), ahead), offset(&mut rng), left);
            let within = |p: Vec2| (REACH[0]..REACH[1]).contains(&length(p));
            if let Some(start) = inverse(from)
                && within(from)
                && within(goal)
            {
                return Scene { start, from, goal, post, radius };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinematics::{sub, tool};

    #[test]
    fn scenes_repeat_and_the_splits_differ() {
        for seed in 0..200 {
            let scene = Scene::draw(Split::Held, seed);
            assert_eq!(scene, Scene::draw(Split::Held, seed));
            assert_ne!(scene, Scene::draw(Split::Train, seed));
            assert!(length(sub(tool(scene.start), scene.from)) < 1e-9);
            assert!(length(sub(scene.from, scene.post)) > scene.radius + TOOL_RADIUS + 0.05);
        }
    }
}
