//! The demo's contact sheet.

use std::path::Path;

use flowlet_board_runner::Image;

/// Pictures are 28 by 28.
const SIDE: usize = 28;
/// Pixels between pictures.
const GAP: usize = 2;
/// Pixels between this host's pictures, the board's, and the next model's.
const GUTTER: usize = 12;
/// Enlargement.
const SCALE: usize = 2;

/// Blocks of pictures, left to right: of each model this host's and (where there are any) the board's; one row a label,
/// one column a seed. Returns the path.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, blocks: &[(&[Image], &[Image])]) -> Result<String, String> {
    let columns: Vec<&[Image]> =
        blocks.iter().flat_map(|(host, board)| [*host, *board]).filter(|i| !i.is_empty()).collect();
    let most =
        |pick: fn(&Image) -> u64, images: &[Image]| images.iter().map(|i| pick(i) as usize + 1).max().unwrap_or(0);
    let widths: Vec<usize> = columns.iter().map(|images| most(|i| i.seed, images) * (SIDE + GAP) + GUTTER).collect();
    let rows = columns.iter().map(|images| most(|i| i.label, images)).max().unwrap_or(0);
    let (width, height) = (widths.iter().sum::<usize>().max(1), (rows * (SIDE + GAP)).max(1));
    let mut pixels = vec![255u8; width * height];
    let mut left = 0;
    for (images, block) in columns.iter().zip(&widths) {
        for image in images.iter().filter(|image| image.bytes.len() == SIDE * SIDE) {
            let (x0, y0) = (left + image.seed as usize * (SIDE + GAP), image.label as usize * (SIDE + GAP));
            for (i, &byte) in image.bytes.iter().enumerate() {
                // The port is s8 with zero point -128.
                pixels[(y0 + i / SIDE) * width + x0 + i % SIDE] = byte ^ 0x80;
            }
        }
        left += block;
    }
    let (wide, tall) = (width * SCALE, height * SCALE);
    let large: Vec<u8> = (0..wide * tall).map(|i| pixels[i / wide / SCALE * width + i % wide / SCALE]).collect();
    save(path, wide, tall, &large).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok(path.display().to_string())
}

fn save(path: &Path, width: usize, height: usize, pixels: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(())
}
