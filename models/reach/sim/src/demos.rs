//! Demonstrations: what the expert does from states that it, disturbed, comes through.

use crate::arm::Arm;
use crate::episode::{CHUNK, LIMIT, Observation, arrived, expert_chunk};
use crate::expert::{Side, action};
use crate::rng::Rng;
use crate::scene::{Scene, Split};

/// One state with what the expert does from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// What is seen.
    pub seen: Observation,
    /// The expert's undisturbed actions, rad.
    pub actions: [[f32; 2]; CHUNK],
}

/// Periods for which the expert goes on after it has arrived, so that a policy learns to stay.
const STAYING: usize = 6;

/// One demonstration: the side is drawn at random, and in three of four demonstrations the joints are disturbed on the way
/// (the states of DAgger's and DART's kind, from which a policy must find back). Every second state is kept, with the
/// expert's own plan from it.
pub fn demonstration(seed: u64) -> Vec<Sample> {
    let scene = Scene::draw(Split::Train, seed);
    let mut rng = Rng::new(seed, 2);
    let side = if rng.coin() { Side::Left } else { Side::Right };
    let strength = if rng.unit() < 0.25 { 0.0 } else { rng.between(0.0, 0.05) };
    let mut arm = Arm::new(&scene);
    let mut push = [0.0; 2];
    let (mut samples, mut staying) = (Vec::new(), 0);
    for step in 0..LIMIT {
        let state = arm.state();
        if step % 2 == 0 {
            let (chunk, clear) = expert_chunk(&scene, side, &state);
            if clear {
                let actions = chunk.map(|a| a.map(|x| x as f32));
                samples.push(Sample { seen: Observation::new(&scene, &state), actions });
            }
        }
        // A push that lasts for some periods (an AR(1) process of this standard deviation, rad in a period).
        push = push.map(|p| 0.8 * p + 0.6 * strength * rng.normal());
        let wanted = action(&scene, side, &state);
        arm.act([wanted[0] + push[0], wanted[1] + push[1]]);
        let elbow = arm.state().q[1];
        staying += usize::from(staying > 0 || arrived(&scene, &arm.state()));
        if arm.touched() || staying > STAYING || !(0.3..2.8).contains(&elbow) {
            break;
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demonstrations_repeat_and_go_both_ways() {
        assert_eq!(demonstration(3), demonstration(3));
        let largest =
            |seed| demonstration(seed).iter().flat_map(|s| s.actions).flatten().fold(0f32, |m, a| m.max(a.abs()));
        for seed in 0..20 {
            let most = largest(seed);
            assert!(most > 0.01 && most < 0.4, "demonstration {seed}: {most} rad in a period");
        }
    }
}
