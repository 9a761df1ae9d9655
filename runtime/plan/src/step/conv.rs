//! Convolutions.

use super::epilogue::Epilogue;
use super::packing::Packing;
use crate::isa::Isa;
use crate::slot::{DType, Slot};

/// 2-D convolution; a 1-D one has one row, and a fully connected layer is a 1x1 convolution of one pixel.
///
/// `acc[o] = bias[row][o] + sum w[o][ky][kx][i] * x[...]` with padding reading `input_zero_point`, then the
/// [`Epilogue`]. Padding below and right follows from the output's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv<'a> {
    /// Input tensor, before the optional upsampling.
    pub input: Slot,
    /// Output tensor.
    pub output: Slot,
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Vertical and horizontal distance between kernel places.
    pub dilation: [u8; 2],
    /// Padding above and left, in (upsampled) input pixels; below and right follow from the output size.
    pub pad: [u8; 2],
    /// Nearest-neighbour factor by which reads are upsampled: 1 or 2.
    pub upsample: u8,
    /// Groups of channels: output channel `o` reads the input channels of group `o / (outputs / groups)`.
    pub groups: u16,
    /// The value that padding reads.
    pub input_zero_point: i8,
    /// Packed s8 weights, in the order of `packing`.
    pub weights: &'a [u8],
    /// Order of `weights`.
    pub packing: Packing,
    /// Memory that the kernel uses while it runs, [`Self::scratch_bytes`] long.
    pub scratch: Option<Slot>,
    /// Bias, requantisation, residual, table.
    pub epilogue: Epilogue<'a>,
}

/// Pixels that the Cortex-M DSP kernel computes together.
pub const ARM_DSP_PIXELS: usize = 4;
/// Longest window of the hosts' kernels, in products: what they gather on the stack.
pub const HOST_PRODUCTS: usize = 32 * 1024;
/// Most kernel places of a depthwise layer for a host's kernel, which lists them on the stack.
pub const HOST_PLACES: usize = 64;
/// Pixels that the MVE kernel computes together.
pub const ARM_MVE_PIXELS: usize = 3;

impl Conv<'_> {
    /// Input channels of one group.
    #[inline(always)]
    pub const fn inputs_per_group(&self) -> usize {
        if self.groups == 0 { 0 } else { self.input.channels as usize / self.groups as usize }
    }

    /// Multiply-accumulates of one call, padding counted.
    pub const fn macs(&self) -> u64 {
        self.output.elements() as u64 * self.kernel[0] as u64 * self.kernel[1] as u64 * self.inputs_per_group() as u64
    }

    /// Bytes of scratch that the packing's kernel needs.
    #[inline(always)]
    pub const fn scratch_bytes(&self) -> usize {
        scratch_bytes(self.packing, self.kernel, self.input.channels as usize)
    }

    /// Whether every slot is inside the arena, the geometry is consistent and every constant has its length.
    /// This is the bound that the kernels' `unsafe` blocks rely on.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let (input, output) = (&self.input, &self.output);
        if !(input.fits(arena_bytes) && output.fits(arena_bytes)) {
            return false;
        }
        if input.dtype as u8 != DType::S8 as u8 || output.dtype as u8 != DType::S8 as u8 {
            return false;
        }
        if self.kernel[0] == 0
            || self.kernel[1] == 0
            || self.stride[0] == 0
            || self.stride[1] == 0
            || self.dilation[0] == 0
            || self.dilation[1] == 0
            || !(self.upsample == 1 || self.upsample == 2)
            || self.groups == 0
            || !input.channels.is_multiple_of(self.groups)
            || !output.channels.is_multiple_of(self.groups)
            || !self.packing.is_sane()
        {
            return false;
        }
        let outputs = output.channels as usize;
        let grouped = match self.packing {
            Packing::Ohwi => true,
            Packing::Panels(_) | Packing::DspPairs => self.groups == 1,
            Packing::Depthwise { .. } | Packing::DspDepthwise => {
                self.groups == input.channels && self.groups == output.channels
            }
        };
        grouped
            && windows_fit(self.packing, self.kernel, self.inputs_per_group())
            && self.weights.len() == self.packing.bytes(outputs, self.kernel, self.inputs_per_group())
            && self.epilogue.fits(output, self.packing.padded_outputs(outputs), arena_bytes)
            && scratch_fits(&self.scratch, self.scratch_bytes(), arena_bytes)
    }
}

/// Transposed convolution: `out[s*y + ky - pad] += w[ky] * in[y]` in both axes, then the [`Epilogue`].
///
/// The kernel computes it as `stride[0] * stride[1]` convolutions of stride 1, one for each place of an output pixel
/// in its stride ("phase"), so no zero is multiplied. Phase `(r, c)` owns the kernel places `r + s*j` and writes the
/// output rows `y` with `(y + pad) mod s = r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose<'a> {
    /// Input tensor.
    pub input: Slot,
    /// Output tensor; its size follows from the exporter's, any size is allowed.
    pub output: Slot,
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Rows and columns cut off above and left.
    pub pad: [u8; 2],
    /// The value that a place outside the input has.
    pub input_zero_point: i8,
    /// Packed s8 weights: for each phase, row-major, the filters `[out_channel][rows][columns][in_channel]` of
    /// [`Self::phase_kernel`] places in the order of `packing`, kernel places from last to first.
    pub weights: &'a [u8],
    /// Order of each phase's weights.
    pub packing: Packing,
    /// Memory that the kernel uses while it runs, [`Self::scratch_bytes`] long.
    pub scratch: Option<Slot>,
    /// Bias, requantisation, residual, table. The bias bank is `[rows][phase][padded out_channel]`, because the term
    /// `-input_zero_point * sum(w)` is over the kernel places of one phase.
    pub epilogue: Epilogue<'a>,
}

impl ConvTranspose<'_> {
    /// Kernel rows and columns that phase `(r, c)` owns; zero where the stride is larger than the kernel.
    #[inline(always)]
    pub const fn phase_kernel(&self, phase: [u8; 2]) -> [u8; 2] {
        [phase_places(self.kernel[0], self.stride[0], phase[0]), phase_places(self.kernel[1], self.stride[1], phase[1])]
    }

    /// Number of phases.
    #[inline(always)]
    pub const fn phases(&self) -> usize {
        self.stride[0] as usize * self.stride[1] as usize
    }

    /// Number of rows in the bias bank, each with a part for every phase.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        match self.epilogue.rows().checked_div(self.phases()) {
            Some(rows) => rows,
            None => 0,
        }
    }

    /// First byte of the weights of phase `(r, c)`.
    #[inline(always)]
    pub const fn phase_offset(&self, phase: [u8; 2]) -> usize {
        let (outputs, inputs) = (self.output.channels as usize, self.input.channels as usize);
        let (mut r, mut sum) = (0, 0usize);
        while r < self.stride[0] {
            let mut c = 0;
            while c < self.stride[1] {
                if r == phase[0] && c == phase[1] {
                    return sum;
                }
                sum = sum.saturating_add(self.packing.bytes(outputs, self.phase_kernel([r, c]), inputs));
                c += 1;
            }
            r += 1;
        }
        sum
    }

    /// Bytes of the weights of all phases.
    #[inline(always)]
    pub const fn weight_bytes(&self) -> usize {
        self.phase_offset(self.stride)
    }

    /// Multiply-accumulates of one call: every input pixel meets every weight.
    pub const fn macs(&self) -> u64 {
        self.input.elements() as u64 * self.output.channels as u64 * self.kernel[0] as u64 * self.kernel[1] as u64
    }

    /// Bytes of scratch that the packing's kernel needs.
    #[inline(always)]
    pub const fn scratch_bytes(&self) -> usize {
        scratch_bytes(self.packing, self.phase_kernel([0, 0]), self.input.channels as usize)
    }

    /// As [`Conv::fits`].
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let (input, output) = (&self.input, &self.output);
        let outputs = output.channels as usize;
        input.fits(arena_bytes)
            && output.fits(arena_bytes)
            && input.dtype as u8 == DType::S8 as u8
            && output.dtype as u8 == DType::S8 as u8
            && self.kernel[0] > 0
            && self.kernel[1] > 0
            && self.stride[0] > 0
            && self.stride[1] > 0
            && !self.packing.is_depthwise()
            && self.packing.is_sane()
            && windows_fit(self.packing, self.kernel, self.input.channels as usize)
            && self.weights.len() == self.weight_bytes()
            && self.epilogue.fits(output, self.packing.padded_outputs(outputs), arena_bytes)
            && self.epilogue.rows().is_multiple_of(self.phases())
            && scratch_fits(&self.scratch, self.scratch_bytes(), arena_bytes)
    }
}

#[inline(always)]
const fn phase_places(kernel: u8, stride: u8, phase: u8) -> u8 {
    if phase >= kernel || stride == 0 { 0 } else { (kernel - phase).div_ceil(stride) }
}

/// Bytes of scratch that the kernel of a packing needs for an input of `channels` channels in all groups: the windows of the pixels that it computes together.
#[inline(always)]
pub const fn scratch_bytes(packing: Packing, kernel: [u8; 2], channels: usize) -> usize {
    let filter = packing.padded_filter(kernel, channels);
    match packing {
        // Of each kernel place its place and how it moves, in whole vectors, and two pixels: of padding, and of a result.
        Packing::Depthwise { isa: Isa::ArmMve, .. } => {
            8 * (kernel[0] as usize * kernel[1] as usize).next_multiple_of(4) + 2 * channels + 8
        }
        Packing::Ohwi | Packing::Depthwise { .. } => 0,
        // The windows of the pixels, widened to 16 bits, and one as bytes.
        Packing::DspPairs => 2 * ARM_DSP_PIXELS * filter + filter + 8,
        // The place of each kernel place, and one pixel of padding.
        Packing::DspDepthwise => 4 * kernel[0] as usize * kernel[1] as usize + channels + 8,
        Packing::Panels(panels) => match panels.isa {
            // One window, widened to 16 bits, and as bytes.
            Isa::ArmDsp => 3 * filter + 8,
            Isa::ArmMve => ARM_MVE_PIXELS * filter + 8,
            // Hosts gather on the stack.
            Isa::Scalar | Isa::Neon | Isa::NeonDot | Isa::NeonI8mm | Isa::Avx2 | Isa::Avx512Vnni => 0,
        },
    }
}

/// Whether the windows of a packing's kernel fit the memory that it has for them.
#[inline(always)]
const fn windows_fit(packing: Packing, kernel: [u8; 2], inputs: usize) -> bool {
    match packing.isa() {
        Isa::Avx2 | Isa::Neon if packing.is_depthwise() => kernel[0] as usize * kernel[1] as usize <= HOST_PLACES,
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm | Isa::Avx2 | Isa::Avx512Vnni => {
            packing.padded_filter(kernel, inputs) <= HOST_PRODUCTS
        }
        Isa::Scalar | Isa::ArmDsp | Isa::ArmMve => true,
    }
}

/// Scratch is one contiguous run of at least `bytes` bytes, aligned to 8 bytes.
#[inline(always)]
pub(super) const fn scratch_fits(scratch: &Option<Slot>, bytes: usize, arena_bytes: usize) -> bool {
    match scratch {
        None => bytes == 0,
        Some(slot) => {
            slot.fits(arena_bytes)
                && slot.dtype as u8 == DType::S8 as u8
                && slot.is_contiguous()
                && slot.offset.is_multiple_of(8)
                && slot.span_bytes() >= bytes
        }
    }
}
