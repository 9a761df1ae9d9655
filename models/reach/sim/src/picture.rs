//! A picture of scenes with the ways that attempts took.

use crate::episode::Outcome;
use crate::expert::Side;
use crate::kinematics::{Vec2, elbow, length, sub};
use crate::scene::{Scene, TOOL_RADIUS};
use image::{Rgb, RgbImage};

/// Width and height of one scene, pixels.
pub const SIZE: u32 = 300;
/// Width and height of what it shows, m.
const SPAN: f64 = 0.62;

const BACKGROUND: Rgb<u8> = Rgb([252, 252, 252]);
const LINK: Rgb<u8> = Rgb([214, 217, 222]);
const POST: Rgb<u8> = Rgb([70, 74, 82]);
const GOAL: Rgb<u8> = Rgb([60, 160, 90]);
const LEFT: Rgb<u8> = Rgb([31, 119, 180]);
const RIGHT: Rgb<u8> = Rgb([235, 120, 20]);
const FAILED: Rgb<u8> = Rgb([200, 30, 40]);

/// Scenes with attempts, one square each, `columns` in a row. Blue ways pass on the left, orange ones on the right, red ones
/// failed.
pub fn sheet(scenes: &[(Scene, Vec<Outcome>)], columns: u32) -> RgbImage {
    let rows = (scenes.len() as u32).div_ceil(columns.max(1));
    let mut sheet = RgbImage::from_pixel(columns * SIZE, rows * SIZE, Rgb([255, 255, 255]));
    for (i, (scene, outcomes)) in (0u32..).zip(scenes) {
        let tile = tile(scene, outcomes);
        let (x, y) = (i % columns * SIZE, i / columns * SIZE);
        image::imageops::replace(&mut sheet, &tile, x.into(), y.into());
    }
    sheet
}

fn tile(scene: &Scene, outcomes: &[Outcome]) -> RgbImage {
    let centre = [scene.post[0] * 0.8, scene.post[1] * 0.8];
    let joints = [[0.0; 2], elbow(scene.start), scene.from];
    let lines: Vec<(Vec<Vec2>, Rgb<u8>)> = outcomes
        .iter()
        .map(|o| {
            let colour = match (o.success(), o.side) {
                (true, Some(Side::Left)) => LEFT,
                (true, _) => RIGHT,
                (false, _) => FAILED,
            };
            (o.path.clone(), colour)
        })
        .collect();
    RgbImage::from_fn(SIZE, SIZE, |column, row| {
        let scale = SPAN / f64::from(SIZE);
        let half = f64::from(SIZE) / 2.0;
        let p = [centre[0] + (f64::from(column) - half) * scale, centre[1] - (f64::from(row) - half) * scale];
        if column == 0 || row == 0 {
            return LINK;
        }
        let pixel = scale;
        let on_way = lines.iter().find(|(path, _)| distance_to(path, p) < 0.8 * pixel);
        if length(sub(p, scene.post)) < scene.radius {
            POST
        } else if let Some((_, colour)) = on_way {
            *colour
        } else if (length(sub(p, scene.goal)) - 0.02).abs() < 1.2 * pixel {
            GOAL
        } else if length(sub(p, scene.from)) < TOOL_RADIUS {
            POST
        } else if distance_to(&joints, p) < 0.012 {
            LINK
        } else {
            BACKGROUND
        }
    })
}

/// Distance from a point to a line through points.
fn distance_to(line: &[Vec2], p: Vec2) -> f64 {
    let each = line.windows(2).map(|ends| {
        let (way, to) = (sub(ends[1], ends[0]), sub(p, ends[0]));
        let square = way[0] * way[0] + way[1] * way[1];
        let along = if square > 0.0 { ((way[0] * to[0] + way[1] * to[1]) / square).clamp(0.0, 1.0) } else { 0.0 };
        length([to[0] - along * way[0], to[1] - along * way[1]])
    });
    each.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::expert_attempt;
    use crate::scene::Split;

    #[test]
    fn a_sheet_shows_both_ways() {
        let scene = Scene::draw(Split::Held, 1);
        let outcomes = [Side::Left, Side::Right].map(|side| expert_attempt(&scene, side)).to_vec();
        let picture = sheet(&[(scene, outcomes)], 1);
        for colour in [LEFT, RIGHT, GOAL, POST, LINK] {
            assert!(picture.pixels().any(|p| *p == colour), "{colour:?}");
        }
        assert!(picture.pixels().all(|p| *p != FAILED));
    }
}
