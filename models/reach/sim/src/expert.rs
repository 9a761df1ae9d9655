//! The scripted expert: straight to the goal, around the post on the side that it is told.

use crate::arm::{PERIOD, State};
use crate::kinematics::{Vec2, add, cross, dot, joint_velocity, length, sub, turned};
use crate::scene::{Scene, TOOL_RADIUS};

/// On which side of the post the tool passes, looking from the start to the goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To the left of the post.
    Left,
    /// To the right of the post.
    Right,
}

/// Room that the expert leaves between peg and post, m.
pub const MARGIN: f64 = 0.03;
/// Speed of the tool on its way, m/s.
const SPEED: f64 = 0.45;
/// Rate at which the tool approaches the goal in the end, 1/s.
const APPROACH: f64 = 5.0;

/// The action (rad by which each joint turns in one period) in this state. A function of the state alone, so that it
/// also says how to go on from where a disturbance has brought the arm.
pub fn action(scene: &Scene, side: Side, state: &State) -> [f64; 2] {
    let here = state.tool();
    let to_goal = sub(scene.goal, here);
    let distance = length(to_goal);
    let speed = SPEED.min(APPROACH * distance);
    let direction = if blocked(scene, here) { around(scene, side, here) } else { to_goal };
    let velocity = add([0.0; 2], speed / length(direction).max(1e-9), direction);
    joint_velocity(state.q, velocity).map(|w| w * PERIOD)
}

fn clearance(scene: &Scene) -> f64 {
    scene.radius + TOOL_RADIUS + MARGIN
}

/// Whether the straight way from `here` to the goal comes closer to the post than the margin allows.
fn blocked(scene: &Scene, here: Vec2) -> bool {
    let (way, post) = (sub(scene.goal, here), sub(scene.post, here));
    let along = (dot(way, post) / dot(way, way).max(1e-12)).clamp(0.0, 1.0);
    along > 0.0 && length(add(post, -along, way)) < clearance(scene)
}

/// The tangent to the post's margin on this side; from within the margin, along its border and outwards.
fn around(scene: &Scene, side: Side, here: Vec2) -> Vec2 {
    let post = sub(scene.post, here);
    let sine = clearance(scene) / length(post).max(1e-9);
    let angle = if sine < 1.0 { libm::asin(sine) } else { std::f64::consts::FRAC_PI_2 + 4.0 * (sine - 1.0).min(0.3) };
    turned(post, if side == Side::Left { angle } else { -angle })
}

/// On which side of the post a path (tool positions, m) passes, by its point that is closest to the post.
pub fn side_of(scene: &Scene, path: &[Vec2]) -> Option<Side> {
    let near = |p: &Vec2| length(sub(*p, scene.post));
    let closest = path.iter().min_by(|a, b| near(a).total_cmp(&near(b)))?;
    let left = cross(sub(scene.goal, scene.from), sub(*closest, scene.post)) > 0.0;
    Some(if left { Side::Left } else { Side::Right })
}
