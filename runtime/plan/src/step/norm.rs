//! Norms whose statistics are computed at run time.

use super::Table;
use super::elementwise::same_shape_s8;
use crate::slot::Slot;

/// Over which elements a norm's statistics run, and whether the mean is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Each pixel's channels, centred: layer normalization of tokens.
    Layer,
    /// Each pixel's channels, not centred: root mean square normalization.
    Rms,
    /// All pixels of each group of `channels / groups` channels, centred: group normalization, and instance
    /// normalization with as many groups as channels.
    Group {
        /// Number of groups.
        groups: u16,
    },
}

/// Normalisation in fixed point with affine and activation: s8 in, s8 out. The arithmetic is defined in
/// `flowlet_kernels::norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm<'a> {
    /// Operand.
    pub input: Slot,
    /// Result; may be the same place as the operand.
    pub output: Slot,
    /// Statistics.
    pub kind: NormKind,
    /// Zero point of the operand; matters without centring only.
    pub input_zero_point: i8,
    /// `N^2 * eps / scale_in^2` rounded, for statistics over N elements; at least 1.
    pub epsilon: u64,
    /// `[channels]` i32 little-endian: `gamma * 2^gain_shift / scale_out`, rounded.
    pub gain: &'a [u8],
    /// Binary point of `gain`, 0 to 30.
    pub gain_shift: u8,
    /// `[channels]` i32 little-endian: `(beta / scale_out + zero_point_out) * 2^16`, rounded.
    pub offset: &'a [u8],
    /// Fused activation.
    pub table: Option<Table<'a>>,
}

impl Norm<'_> {
    /// Elements that one statistic runs over.
    #[inline(always)]
    pub const fn elements(&self) -> usize {
        match self.kind {
            NormKind::Layer | NormKind::Rms => self.input.channels as usize,
            NormKind::Group { groups } => {
                if groups == 0 {
                    0
                } else {
                    self.input.elements() / groups as usize
                }
            }
        }
    }

    /// Whether every slot is inside the arena, the shapes agree and no statistic can overflow (fewer than 2^20
    /// elements).
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let channels = self.input.channels as usize;
        let groups = match self.kind {
            NormKind::Layer | NormKind::Rms => true,
            NormKind::Group { groups } => groups > 0 && self.input.channels.is_multiple_of(groups),
        };
        same_shape_s8(&self.input, &self.output, arena_bytes)
            && groups
            && self.elements() < 1 << 20
            && self.epsilon >= 1
            && self.epsilon < 1 << 62
            && self.gain.len() == 4 * channels
            && self.offset.len() == 4 * channels
            && self.gain_shift <= 30
    }
}
