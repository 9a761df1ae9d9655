//! Contact sheets.

use anyhow::{anyhow, bail};
use std::path::Path;

/// Pictures of one size, row by row on a white ground.
#[derive(Clone, Debug)]
pub struct Sheet {
    channels: usize,
    height: usize,
    width: usize,
    columns: usize,
    scale: usize,
    pictures: Vec<Vec<u8>>,
}

/// White pixels between pictures.
const GAP: usize = 2;

/// Pictures smaller than this are enlarged by a whole factor.
const LEGIBLE: usize = 48;

impl Sheet {
    /// A sheet of pictures `[1, C, H, W]` with so many in a row.
    ///
    /// # Errors
    /// When the dimensions are not those of a grey or coloured picture.
    pub fn new(dims: &[usize], columns: usize) -> anyhow::Result<Self> {
        let [1, channels @ (1 | 3), height, width] = *dims else {
            bail!(
                "a tensor of shape {dims:?} is no picture: only [1, 1 or 3, height, width] can be drawn; give --out DIR"
            );
        };
        let scale = LEGIBLE.div_ceil(height.min(width).max(1));
        Ok(Sheet { channels, height, width, columns: columns.max(1), scale, pictures: Vec::new() })
    }

    /// Adds a picture of intensities 0..1 in graph order; others are clamped.
    pub fn push(&mut self, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        self.pictures.push(flowlet_score::layout::channels_last(&[1, self.channels, self.height, self.width], &bytes));
    }

    /// Adds a picture of the s8 values of an intensity port, in NHWC order.
    pub fn push_s8(&mut self, values: &[i8]) {
        self.pictures.push(values.iter().map(|&q| (i16::from(q) + 128) as u8).collect());
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let (tall, wide) = (self.height * self.scale + GAP, self.width * self.scale + GAP);
        let columns = self.columns.min(self.pictures.len().max(1));
        let rows = self.pictures.len().div_ceil(columns).max(1);
        let (height, width) = (rows * tall + GAP, columns * wide + GAP);
        let mut out = vec![255u8; height * width * self.channels];
        for (i, picture) in self.pictures.iter().enumerate() {
            let (top, left) = (GAP + i / columns * tall, GAP + i % columns * wide);
            for y in 0..self.height * self.scale {
                for x in 0..self.width * self.scale {
                    let from = (y / self.scale * self.width + x / self.scale) * self.channels;
                    let to = ((top + y) * width + left + x) * self.channels;
                    out[to..to + self.channels].copy_from_slice(&picture[from..from + self.channels]);
                }
            }
        }
        let kind = if self.channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
        crate::options::write(path, &[])?;
        image::save_buffer_with_format(path, &out, width as u32, height as u32, kind, image::ImageFormat::Png)
            .map_err(|e| anyhow!("cannot write {}: {e}", path.display()))
    }
}
