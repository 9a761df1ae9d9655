//! What a camera on the forearm sees: post and goal from above, the peg in the middle.

use crate::episode::{ARRIVED, Observation};

/// Width and height of the picture, pixels.
pub const PIXELS: usize = 64;
/// Width and height of what it shows, m.
pub const VIEW: f32 = 0.9;

/// Intensities [1, 64, 64], rows downwards, the forearm's direction to the right: 0 for the table, 1 for the post, -1 for
/// the disc in which the peg shall stop. A pixel on a rim has the share that the disc covers of it, by the distance of its
/// centre from the rim. `models/reach/camera.py` has the same law.
pub fn picture(seen: &Observation) -> Vec<f32> {
    let [goal_x, goal_y, post_x, post_y, radius] = seen.scene;
    let pixel = VIEW / PIXELS as f32;
    let at = |index: usize| (index as f32 + 0.5) * pixel - 0.5 * VIEW;
    let covered = |x: f32, y: f32, radius: f32| {
        let distance = libm::sqrtf(x * x + y * y);
        ((radius - distance) / pixel + 0.5).clamp(0.0, 1.0)
    };
    let mut picture = Vec::with_capacity(PIXELS * PIXELS);
    for row in 0..PIXELS {
        for column in 0..PIXELS {
            let (x, y) = (at(column), -at(row));
            let post = covered(x - post_x, y - post_y, radius);
            let goal = covered(x - goal_x, y - goal_y, ARRIVED as f32);
            picture.push(post - goal);
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discs_lie_where_they_are_and_cover_their_area() {
        let seen = Observation { joints: [0.0; 3], scene: [0.2, -0.1, -0.15, 0.05, 0.04] };
        let picture = picture(&seen);
        let pixel = f64::from(VIEW) / PIXELS as f64;
        for (sign, place, radius) in [(1.0, [-0.15, 0.05], 0.04), (-1.0, [0.2, -0.1], ARRIVED)] {
            let (mut area, mut x, mut y) = (0.0, 0.0, 0.0);
            for (i, value) in picture.iter().enumerate() {
                let share = (sign * f64::from(*value)).max(0.0);
                area += share;
                x += share * (((i % PIXELS) as f64 + 0.5) * pixel - f64::from(VIEW) / 2.0);
                y -= share * (((i / PIXELS) as f64 + 0.5) * pixel - f64::from(VIEW) / 2.0);
            }
            let expected = std::f64::consts::PI * radius * radius / (pixel * pixel);
            assert!((area / expected - 1.0).abs() < 0.05, "{area} pixels, expected {expected}");
            assert!(
                (x / area - place[0]).abs() < 1e-3 && (y / area - place[1]).abs() < 1e-3,
                "{} {}",
                x / area,
                y / area
            );
        }
    }
}
