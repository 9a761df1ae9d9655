//! Weights of linear layers, in f32 or f16.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// How a network stores the weights of its convolutions, linear layers and transposed convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// As they are.
    #[default]
    F32,
    /// IEEE 754 binary16, to the nearest, widened when they are read; all arithmetic stays in f32. A weight of magnitude 2^-14
    /// to 65,504 changes by at most 2^-11 of itself, a smaller one by at most 2^-25; a larger one is refused.
    F16,
}

/// Packed numbers.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Packed {
    /// `None` for a number that f16 cannot hold.
    pub fn new(values: Vec<f32>, weights: Weights) -> Option<Packed> {
        match weights {
            Weights::F32 => Some(Packed::F32(values)),
            Weights::F16 => {
                let narrow: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                let lost = values.iter().zip(&narrow).any(|(v, n)| v.is_finite() && !n.is_finite());
                (!lost).then_some(Packed::F16(narrow))
            }
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Packed::F32(v) => v.len() * 4,
            Packed::F16(v) => v.len() * 2,
        }
    }

    /// Numbers `first..first + count`, in `scratch` if they have to be widened; as many as it holds at least.
    #[inline(always)]
    pub fn read<'a>(&'a self, first: usize, count: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        match self {
            Packed::F32(v) => &v[first..first + count],
            Packed::F16(v) => {
                let scratch = &mut scratch[..count];
                v[first..first + count].convert_to_f32_slice(scratch);
                scratch
            }
        }
    }

    pub fn is_narrow(&self) -> bool {
        matches!(self, Packed::F16(_))
    }
}
