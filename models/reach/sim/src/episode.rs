//! What a policy sees, and a whole attempt at a scene in closed loop.

use crate::arm::{Arm, State};
use crate::expert::{self, Side};
use crate::kinematics::{Vec2, length, sub, turned};
use crate::scene::Scene;

/// Actions that a policy plans at once.
pub const CHUNK: usize = 16;
/// Actions of a chunk that are executed before the policy looks again.
pub const EXECUTED: usize = 8;
/// Actions until an attempt is given up.
pub const LIMIT: usize = 64;
/// The tool has arrived when it is this close to the goal, m, ...
pub const ARRIVED: f64 = 0.02;
/// ... and slower than this, m/s.
pub const STOPPED: f64 = 0.1;

/// Actions: by how many rad both joints turn in each period.
pub type Chunk = [[f64; 2]; CHUNK];

/// What a policy sees, in real units. Positions are relative to the tool and in the forearm's frame (x along it), as a
/// camera on the forearm would measure them; the shoulder's angle plays no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Elbow angle, rad; shoulder and elbow velocity, rad/s.
    pub joints: [f32; 3],
    /// Goal x and y, post x and y, radius of the post, m.
    pub scene: [f32; 5],
}

impl Observation {
    /// The observation in this state.
    pub fn new(scene: &Scene, state: &State) -> Self {
        let here = state.tool();
        let seen = |p: Vec2| turned(sub(p, here), -(state.q[0] + state.q[1])).map(|x| x as f32);
        let (goal, post) = (seen(scene.goal), seen(scene.post));
        Observation {
            joints: [state.q[1] as f32, state.w[0] as f32, state.w[1] as f32],
            scene: [goal[0], goal[1], post[0], post[1], scene.radius as f32],
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The tool stopped at the goal in time.
    pub arrived: bool,
    /// The peg touched the post.
    pub touched: bool,
    /// On which side of the post the tool went.
    pub side: Option<Side>,
    /// Where the tool was, from the start on, once a period, m.
    pub path: Vec<Vec2>,
}

impl Outcome {
    /// The goal was reached and the post not touched.
    pub fn success(&self) -> bool {
        self.arrived && !self.touched
    }
}

/// Whether the tool has stopped at the goal.
pub fn arrived(scene: &Scene, state: &State) -> bool {
    length(sub(state.tool(), scene.goal)) < ARRIVED && length(state.tool_velocity()) < STOPPED
}

/// Lets `plan` drive the arm: it is given the observation and the number of the call.
///
/// # Errors
/// What `plan` fails with.
pub fn attempt<E>(scene: &Scene, mut plan: impl FnMut(&Observation, usize) -> Result<Chunk, E>) -> Result<Outcome, E> {
    let mut arm = Arm::new(scene);
    let mut path = vec![arm.state().tool()];
    let mut stopped = false;
    'whole: for call in 0..LIMIT / EXECUTED {
        let chunk = plan(&Observation::new(scene, &arm.state()), call)?;
        for action in &chunk[..EXECUTED] {
            arm.act(*action);
            let state = arm.state();
            path.push(state.tool());
            stopped = arrived(scene, &state);
            if stopped || arm.touched() {
                break 'whole;
            }
        }
    }
    Ok(Outcome { arrived: stopped, touched: arm.touched(), side: expert::side_of(scene, &path), path })
}

/// The expert's next actions from a state, and whether they keep off the post.
pub fn expert_chunk(scene: &Scene, side: Side, state: &State) -> (Chunk, bool) {
    let mut arm = Arm::at(scene, *state);
    let chunk = std::array::from_fn(|_| {
        let action = expert::action(scene, side, &arm.state());
        arm.act(action);
        action
    });
    (chunk, !arm.touched())
}

/// The expert, once in every period.
pub fn expert_attempt(scene: &Scene, side: Side) -> Outcome {
    let mut arm = Arm::new(scene);
    let mut path = vec![arm.state().tool()];
    let mut stopped = false;
    for _ in 0..LIMIT {
        arm.act(expert::action(scene, side, &arm.state()));
        let state = arm.state();
        path.push(state.tool());
        stopped = arrived(scene, &state);
        if stopped || arm.touched() {
            break;
        }
    }
    Outcome { arrived: stopped, touched: arm.touched(), side: expert::side_of(scene, &path), path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Split;
    use std::convert::Infallible;

    #[test]
    fn the_expert_arrives_on_either_side() {
        let count = 300;
        let mut successes = 0;
        for seed in 0..count {
            let scene = Scene::draw(Split::Held, seed);
            for side in [Side::Left, Side::Right] {
                let outcome = expert_attempt(&scene, side);
                successes += u64::from(outcome.success() && outcome.side == Some(side));
            }
        }
        assert!(successes as f64 > 0.98 * 2.0 * count as f64, "{successes} of {}", 2 * count);
    }

    #[test]
    fn an_attempt_repeats_bit_for_bit() {
        let scene = Scene::draw(Split::Held, 7);
        let run = || {
            attempt(&scene, |seen, _| {
                let x = f64::from(seen.scene[0]);
                Ok::<Chunk, Infallible>([[0.02 * x, 0.03]; CHUNK])
            })
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn driving_straight_at_the_goal_touches_the_post() {
        let touched = (0..50).filter(|&seed| {
            let scene = Scene { radius: 0.04, ..Scene::draw(Split::Held, seed) };
            let blind = Scene { post: [9.0, 9.0], ..scene };
            let mut arm = Arm::new(&scene);
            for _ in 0..30 {
                arm.act(expert::action(&blind, Side::Left, &arm.state()));
            }
            arm.touched()
        });
        assert_eq!(touched.count(), 50);
    }

    #[test]
    fn what_is_seen_does_not_depend_on_the_shoulder() {
        let scene = Scene::draw(Split::Train, 5);
        let turned_scene = Scene {
            start: [scene.start[0] + 0.7, scene.start[1]],
            from: turned(scene.from, 0.7),
            goal: turned(scene.goal, 0.7),
            post: turned(scene.post, 0.7),
            ..scene
        };
        let see = |s: &Scene| Observation::new(s, &State { q: s.start, w: [0.0; 2] });
        let (a, b) = (see(&scene), see(&turned_scene));
        for (a, b) in a.joints.iter().chain(&a.scene).zip(b.joints.iter().chain(&b.scene)) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
