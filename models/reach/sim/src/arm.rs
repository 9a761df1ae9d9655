//! The arm in rapier: two links on velocity-controlled hinges, a peg at the end, a fixed post.
//!
//! The links move above the post and pass it; only the peg can touch it. Gravity acts along the hinges. The peg is a
//! sensor: a touch ends an attempt, and the engine's contacts would brake the peg before it touches.

use crate::kinematics::{FORE, UPPER, Vec2, elbow, tool, tool_velocity};
use crate::scene::{Scene, TOOL_RADIUS};
use rapier2d::prelude::{
    ColliderBuilder, ColliderHandle, Group, ImpulseJointHandle, InteractionGroups, InteractionTestMode, PhysicsWorld,
    RevoluteJointBuilder, RigidBodyBuilder, RigidBodyHandle, Vector,
};

/// Duration of one action, s.
pub const PERIOD: f64 = 0.05;
/// Physics steps in one action.
const SUBSTEPS: usize = 10;
/// Damping of a hinge about its target velocity, for each kg m2 of the bodies that it joins, 1/s.
const MOTOR_RATE: f32 = 400.0;
/// Largest torque of a hinge, N m.
const MOTOR_TORQUE: f32 = 60.0;
/// Half the width of a link, m.
const LINK_RADIUS: f32 = 0.03;
/// Mass of a link per area, kg/m2.
const LINK_DENSITY: f32 = 60.0;
/// Largest velocity that a hinge is asked for, rad/s.
const MOTOR_SPEED: f64 = 6.0;

/// What encoders measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Joint angles, rad.
    pub q: [f64; 2],
    /// Joint velocities, rad/s.
    pub w: [f64; 2],
}

impl State {
    /// Where the tool is, m.
    pub fn tool(&self) -> Vec2 {
        tool(self.q)
    }

    /// How fast the tool moves, m/s.
    pub fn tool_velocity(&self) -> Vec2 {
        tool_velocity(self.q, self.w)
    }
}

/// The simulated arm in a scene.
pub struct Arm {
    world: PhysicsWorld,
    links: [RigidBodyHandle; 2],
    hinges: [ImpulseJointHandle; 2],
    peg: ColliderHandle,
    post: ColliderHandle,
    touched: bool,
}

fn vector(v: Vec2) -> Vector {
    Vector::new(v[0] as f32, v[1] as f32)
}

impl Arm {
    /// The arm at the start of a scene, at rest.
    pub fn new(scene: &Scene) -> Self {
        Self::at(scene, State { q: scene.start, w: [0.0; 2] })
    }

    /// The arm in any state of motion.
    pub fn at(scene: &Scene, state: State) -> Self {
        let mut world = PhysicsWorld { gravity: Vector::new(0.0, 0.0), ..PhysicsWorld::default() };
        world.integration_parameters.dt = (PERIOD / SUBSTEPS as f64) as f32;
        let group = |own, other| InteractionGroups::new(own, other, InteractionTestMode::And);
        let base = world.insert_body(RigidBodyBuilder::fixed());
        let (_, post) = world.insert(
            RigidBodyBuilder::fixed().translation(vector(scene.post)),
            ColliderBuilder::ball(scene.radius as f32).collision_groups(group(Group::GROUP_2, Group::GROUP_1)),
        );
        let State { q, w } = state;
        let turn = [q[0], q[0] + q[1]];
        let spin = [w[0], w[0] + w[1]];
        let roots = [[0.0; 2], elbow(q)];
        let root_velocity = [[0.0; 2], [-roots[1][1] * w[0], roots[1][0] * w[0]]];
        let links = [0, 1].map(|i| {
            let half = [UPPER, FORE][i] / 2.0;
            let arm = [half * libm::cos(turn[i]), half * libm::sin(turn[i])];
            let velocity = [root_velocity[i][0] - spin[i] * arm[1], root_velocity[i][1] + spin[i] * arm[0]];
            let body = RigidBodyBuilder::dynamic()
                .translation(vector(roots[i]))
                .rotation(turn[i] as f32)
                .linvel(vector(velocity))
                .angvel(spin[i] as f32)
                .can_sleep(false);
            let end = Vector::new(2.0 * half as f32, 0.0);
            let collider = ColliderBuilder::capsule_from_endpoints(Vector::new(0.0, 0.0), end, LINK_RADIUS)
                .density(LINK_DENSITY)
                .collision_groups(InteractionGroups::none());
            world.insert(body, collider).0
        });
        let peg = ColliderBuilder::ball(TOOL_RADIUS as f32)
            .translation(Vector::new(FORE as f32, 0.0))
            .density(0.0)
            .sensor(true)
            .collision_groups(group(Group::GROUP_1, Group::GROUP_2));
        let peg = world.insert_collider(peg, Some(links[1]));
        let hinge = |anchor: f64| {
            RevoluteJointBuilder::new()
                .local_anchor1(Vector::new(anchor as f32, 0.0))
                .local_anchor2(Vector::new(0.0, 0.0))
                .contacts_enabled(false)
                .motor_velocity(0.0, MOTOR_RATE)
                .motor_max_force(MOTOR_TORQUE)
        };
        let shoulder = world.insert_impulse_joint(base, links[0], hinge(0.0));
        let hinges = [shoulder, world.insert_impulse_joint(links[0], links[1], hinge(UPPER))];
        Arm { world, links, hinges, peg, post, touched: false }
    }

    /// Joint angles and velocities.
    pub fn state(&self) -> State {
        let [upper, fore] = self.links.map(|link| &self.world.bodies[link]);
        let angle = |r: &rapier2d::prelude::Rotation| libm::atan2(r.sin().into(), r.cos().into());
        let first = angle(upper.rotation());
        // The elbow bends to the left only, so its angle lies in (0, pi) and needs no count of turns.
        let second = angle(&(upper.rotation().inverse() * *fore.rotation()));
        let spin = [f64::from(upper.angvel()), f64::from(fore.angvel())];
        State { q: [first, second], w: [spin[0], spin[1] - spin[0]] }
    }

    /// Asks both hinges to turn by `action` rad within one period, and lets that time pass.
    pub fn act(&mut self, action: [f64; 2]) {
        for (hinge, delta) in self.hinges.into_iter().zip(action) {
            let speed = (delta / PERIOD).clamp(-MOTOR_SPEED, MOTOR_SPEED) as f32;
            if let Some(joint) = self.world.impulse_joints.get_mut(hinge, true) {
                joint.data.set_motor_velocity(rapier2d::prelude::JointAxis::AngX, speed, MOTOR_RATE);
            }
        }
        for _ in 0..SUBSTEPS {
            self.world.step();
            self.touched |= self.world.intersection_pair(self.peg, self.post) == Some(true);
        }
    }

    /// Whether the peg has touched the post at any time.
    pub fn touched(&self) -> bool {
        self.touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinematics::{add, joint_velocity, length, sub};
    use crate::scene::Split;

    #[test]
    fn hinges_turn_as_asked() {
        let scene = Scene { post: [5.0, 5.0], ..Scene::draw(Split::Train, 1) };
        let mut arm = Arm::new(&scene);
        for _ in 0..10 {
            arm.act([0.02, -0.03]);
        }
        let state = arm.state();
        assert!((state.w[0] - 0.4).abs() < 0.01 && (state.w[1] + 0.6).abs() < 0.01, "{state:?}");
        // What is lost at the start is a lag of less than 50 ms.
        let moved = sub(state.q, scene.start);
        assert!((0.18..0.2).contains(&moved[0]) && (-0.3..-0.27).contains(&moved[1]), "{moved:?}");
        assert!(!arm.touched());
    }

    #[test]
    fn links_stay_joined() {
        let scene = Scene::draw(Split::Train, 2);
        let mut arm = Arm::new(&scene);
        for k in 0..40 {
            arm.act([0.05, if k < 20 { -0.04 } else { 0.04 }]);
        }
        let body = &arm.world.bodies[arm.links[1]];
        let found = [f64::from(body.translation().x), f64::from(body.translation().y)];
        assert!(length(sub(found, elbow(arm.state().q))) < 1e-3);
    }

    #[test]
    fn a_state_is_all_there_is() {
        let scene = Scene { post: [5.0, 5.0], ..Scene::draw(Split::Train, 3) };
        let mut arm = Arm::new(&scene);
        for _ in 0..8 {
            arm.act([0.04, -0.02]);
        }
        let mut copy = Arm::at(&scene, arm.state());
        for _ in 0..8 {
            arm.act([-0.03, 0.02]);
            copy.act([-0.03, 0.02]);
        }
        let (a, b) = (arm.state(), copy.state());
        assert!(length(sub(a.q, b.q)) < 1e-3 && length(sub(a.w, b.w)) < 1e-2, "{a:?} {b:?}");
    }

    #[test]
    fn passing_close_is_no_touch() {
        let scene = Scene::draw(Split::Held, 4);
        for (gap, touches) in [(0.012, false), (-0.005, true)] {
            // A post beside the way; motors keep the peg within a centimetre of it.
            let way = sub(scene.goal, scene.from);
            let left = [-way[1] / length(way), way[0] / length(way)];
            let beside = add(scene.from, 0.5, way);
            let post = add(beside, scene.radius + TOOL_RADIUS + gap, left);
            let (mut arm, mut closest) = (Arm::new(&Scene { post, ..scene }), f64::INFINITY);
            for _ in 0..30 {
                let state = arm.state();
                let rest = sub(scene.goal, state.tool());
                let velocity = add([0.0; 2], 0.3 / length(rest).max(0.1), rest);
                arm.act(joint_velocity(state.q, velocity).map(|w| w * PERIOD));
                closest = length(sub(arm.state().tool(), post)).min(closest);
            }
            assert_eq!(
                arm.touched(),
                touches,
                "gap {gap} m, {closest} m from the centre of a post of {} m",
                scene.radius
            );
        }
    }

    #[test]
    fn running_into_the_post_is_seen() {
        let scene = Scene::draw(Split::Held, 4);
        let mut arm = Arm::new(&scene);
        let way = sub(scene.post, scene.from);
        for _ in 0..20 {
            let q = arm.state().q;
            arm.act(joint_velocity(q, way).map(|w| w * PERIOD));
        }
        assert!(arm.touched());
    }
}
