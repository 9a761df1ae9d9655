//! The arena over time as a plain picture: steps to the right, addresses upwards, one rectangle a tensor.

use flowlet_compiler::lower::MemoryReport;
use image::{Rgb, RgbImage};
use std::path::Path;

const COLUMN: usize = 24;
const HEIGHT: usize = 400;
const EDGE: usize = 8;

/// Colours that differ from their neighbours.
const COLOURS: [[u8; 3]; 8] = [
    [0x4e, 0x79, 0xa7],
    [0xf2, 0x8e, 0x2b],
    [0x59, 0xa1, 0x4f],
    [0xe1, 0x57, 0x59],
    [0x76, 0xb7, 0xb2],
    [0xed, 0xc9, 0x48],
    [0xb0, 0x7a, 0xa1],
    [0x9c, 0x75, 0x5f],
];

/// Writes the picture.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn save(memory: &MemoryReport, path: &Path) -> anyhow::Result<()> {
    let width = memory.steps.len() * COLUMN + COLUMN + 2 * EDGE;
    let mut out = RgbImage::from_pixel(width as u32, (HEIGHT + 2 * EDGE) as u32, Rgb([255; 3]));
    let y = |bytes: usize| EDGE + HEIGHT - bytes * HEIGHT / memory.arena_bytes.max(1);
    let owners = memory.tensors.iter().filter(|t| t.inside.is_none());
    for (number, tensor) in owners.enumerate() {
        let (left, right) = (EDGE + tensor.first * COLUMN, EDGE + (tensor.last + 1) * COLUMN);
        let (top, bottom) = (y(tensor.offset + tensor.bytes), y(tensor.offset));
        let fill = COLOURS[number % COLOURS.len()];
        for py in top..bottom {
            for px in left..right.min(width - EDGE) {
                let edge = py == top || px == left || px + 1 == right;
                let colour = if edge { [40; 3] } else { fill };
                out.put_pixel(px as u32, py as u32, Rgb(colour));
            }
        }
    }
    crate::options::write(path, &[])?;
    out.save_with_format(path, image::ImageFormat::Png)
        .map_err(|e| anyhow::anyhow!("cannot write {}: {e}", path.display()))
}
