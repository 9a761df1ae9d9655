//! Convolutions, transposed convolutions and linear layers: windows times packed panels.

use super::tile::{load_some, store_some, sum};
use super::windows::{OUTSIDE, Windows};
use crate::weights::Packed;
use flowlet_kernels::float::{LANES, Lanes, accumulate};
use std::ops::Range;

/// A linear layer whose weights are packed.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub windows: Windows,
    pub form: Form,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the result.
    pub outputs: usize,
    pub groups: usize,
    pub weights: Packed,
    /// As long as the input channels of a group: what padding reads.
    pub zeros: Vec<f32>,
}

/// Which loop a layer runs, and the order of its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `[group][panel][tap][input][LANES]`
    Panels,
    /// As `Panels`, for windows so small that they are gathered first.
    Gathered,
    /// `[output][tap][input]`, for few outputs: lanes are inputs.
    Dot,
    /// `[tap][channel]`: one input and one output channel a group.
    Depthwise,
}

/// Numbers of a gathered window at most.
const GATHERED: usize = 128;
/// Rows at most that a tile computes.
const MOST_ROWS: usize = 12;
/// Panels at most that a tile computes.
const MOST_PANELS: usize = 4;

impl Form {
    /// For `taps` windows of `inputs` channels a group and `outputs` channels a group.
    pub fn choose(taps: usize, inputs: usize, outputs: usize, groups: usize) -> Form {
        if groups > 1 && inputs == 1 && outputs == 1 {
            Form::Depthwise
        } else if groups == 1 && outputs <= 4 && inputs.is_multiple_of(LANES) {
            Form::Dot
        } else if groups == 1 && inputs < 8 && taps > 1 && taps * inputs <= GATHERED {
            Form::Gathered
        } else {
            Form::Panels
        }
    }

    /// Weights in the order of this form, of a layer with `[groups * outputs][inputs][taps]` as `weight(o, i, tap)`.
    pub fn pack(
        self,
        [taps, inputs, outputs, groups]: [usize; 4],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Vec<f32> {
        let mut packed = Vec::new();
        match self {
            Form::Panels | Form::Gathered => {
                for (g, first) in (0..groups).flat_map(|g| (0..outputs).step_by(LANES).map(move |f| (g, f))) {
                    for (tap, i) in (0..taps).flat_map(|t| (0..inputs).map(move |i| (t, i))) {
                        for o in first..first + LANES {
                            packed.push(if o < outputs { weight(g * outputs + o, i, tap) } else { 0.0 });
                        }
                    }
                }
            }
            Form::Dot => {
                for (o, tap) in (0..outputs).flat_map(|o| (0..taps).map(move |t| (o, t))) {
                    packed.extend((0..inputs).map(|i| weight(o, i, tap)));
                }
            }
            Form::Depthwise => {
                for tap in 0..taps {
                    packed.extend((0..groups).map(|g| weight(g, 0, tap)));
                }
            }
        }
        packed
    }
}

impl Conv {
    /// Multiply-accumulates of all pixels.
    pub fn macs(&self) -> usize {
        self.pixels() * self.windows.taps * self.inputs / self.groups * self.outputs
    }

    /// Pixels of the result.
    pub fn pixels(&self) -> usize {
        self.windows.offsets.len() / self.windows.taps
    }

    /// Numbers of scratch that a thread needs.
    pub fn scratch(&self) -> usize {
        match self.form {
            _ if !self.weights.is_narrow() => 0,
            Form::Panels => MOST_PANELS * self.panel(),
            Form::Gathered => self.outputs.div_ceil(LANES) * self.panel(),
            Form::Dot => self.outputs * self.windows.taps * self.inputs,
            Form::Depthwise => self.windows.taps * self.inputs,
        }
    }

    /// Numbers of a panel.
    fn panel(&self) -> usize {
        self.windows.taps * self.inputs / self.groups * LANES
    }

    /// Computes pixels `range` into `out`, which begins with the first of them: all pixels if they are not in order.
    #[inline(always)]
    pub fn run<L: Lanes>(
        &self,
        lanes: L,
        input: &[f32],
        bias: Option<&[f32]>,
        range: Range<usize>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let mut call = Call { lanes, conv: self, input, bias, range, out };
        match self.form {
            Form::Panels => call.panels(scratch),
            Form::Gathered => call.gathered(scratch),
            Form::Dot => call.dot(scratch),
            Form::Depthwise => call.depthwise(scratch),
        }
    }
}

struct Call<'c, L> {
    lanes: L,
    conv: &'c Conv,
    input: &'c [f32],
    bias: Option<&'c [f32]>,
    range: Range<usize>,
    out: &'c mut [f32],
}

impl<L: Lanes> Call<'_, L> {
    /// Panel after panel, so that its weights stay in cache; few pixels take several panels at once.
    #[inline(always)]
    fn panels(&mut self, scratch: &mut [f32]) {
        let conv = self.conv;
        let panels = (conv.outputs / conv.groups).div_ceil(LANES);
        let at_once = match self.range.len() {
            1 => MOST_PANELS,
            2 => 3,
            3 => 2,
            _ => 1,
        };
        for group in 0..conv.groups {
            let mut panel = 0;
            while panel < panels {
                let count = if panel + at_once <= panels { at_once } else { 1 };
                let first = (group * panels + panel) * conv.panel();
                let weights = conv.weights.read(first, count * conv.panel(), scratch);
                match count {
                    4 => self.block::<1, 4>(weights, group, panel, self.range.start),
                    3 => self.block::<2, 3>(weights, group, panel, self.range.start),
                    2 => self.block::<3, 2>(weights, group, panel, self.range.start),
                    _ => self.panel(weights, group, panel),
                }
                panel += count;
            }
        }
    }

    /// All pixels of one panel.
    #[inline(always)]
    fn panel(&mut self, weights: &[f32], group: usize, panel: usize) {
        let Range { start: mut pixel, end } = self.range;
        if L::ROWS >= 12 {
            while pixel + 12 <= end {
                self.block::<12, 1>(weights, group, panel, pixel);
                pixel += 12;
            }
        }
        if L::ROWS >= 6 {
            while pixel + 6 <= end {
                self.block::<6, 1>(weights, group, panel, pixel);
                pixel += 6;
            }
            if pixel + 3 <= end {
                self.block::<3, 1>(weights, group, panel, pixel);
                pixel += 3;
            }
        }
        while pixel + 2 <= end {
            self.block::<2, 1>(weights, group, panel, pixel);
            pixel += 2;
        }
        if pixel < end {
            self.block::<1, 1>(weights, group, panel, pixel);
        }
    }

    /// `M` pixels and `N` panels.
    #[inline(always)]
    fn block<const M: usize, const N: usize>(&mut self, weights: &[f32], group: usize, panel: usize, pixel: usize) {
        let (lanes, conv) = (self.lanes, self.conv);
        let (depth, own) = (conv.inputs / conv.groups, conv.outputs / conv.groups);
        let mut acc = [self.first::<N>(group * own + panel * LANES, own - panel * LANES); M];
        let taps = conv.windows.taps;
        let offsets = &conv.windows.offsets[pixel * taps..(pixel + M) * taps];
        for tap in 0..taps {
            let at: [u32; M] = std::array::from_fn(|m| offsets[m * taps + tap]);
            if at.iter().all(|&at| at == OUTSIDE) {
                continue;
            }
            let rows = at.map(|at| match at {
                OUTSIDE => &conv.zeros[..depth],
                at => &self.input[at as usize + group * depth..][..depth],
            });
            let panels = std::array::from_fn(|n| &weights[n * conv.panel() + tap * depth * LANES..][..depth * LANES]);
            accumulate(lanes, rows, panels, &mut acc);
        }
        self.put(&acc, pixel, group * own, panel * LANES, own);
    }

    /// The biases of `N` panels from `channel` on, of which `left` are those of the group.
    #[inline(always)]
    fn first<const N: usize>(&self, channel: usize, left: usize) -> [L::V; N] {
        let mut first = [self.lanes.splat(0.0); N];
        if let Some(bias) = self.bias {
            for (n, v) in first.iter_mut().enumerate() {
                *v = load_some(self.lanes, &bias[channel + n * LANES..channel + left.min((n + 1) * LANES)]);
            }
        }
        first
    }

    /// Results of `M` pixels and `N` panels, of a group of `own` channels that begins at channel `group`.
    #[inline(always)]
    fn put<const M: usize, const N: usize>(
        &mut self,
        acc: &[[L::V; N]; M],
        pixel: usize,
        group: usize,
        first: usize,
        own: usize,
    ) {
        let lanes = self.lanes;
        for (m, sums) in acc.iter().enumerate() {
            let row = self.row(pixel + m);
            for (n, v) in sums.iter().enumerate() {
                let (from, to) = (first + n * LANES, own.min(first + (n + 1) * LANES));
                store_some(lanes, *v, &mut row[group + from..group + to]);
            }
        }
    }

    /// The results of a pixel.
    #[inline(always)]
    fn row(&mut self, pixel: usize) -> &mut [f32] {
        let conv = self.conv;
        let at = conv.windows.order.as_ref().map_or(pixel - self.range.start, |order| order[pixel] as usize);
        &mut self.out[at * conv.outputs..(at + 1) * conv.outputs]
    }

    /// Windows of few channels, copied together first.
    #[inline(always)]
    fn gathered(&mut self, scratch: &mut [f32]) {
        let conv = self.conv;
        let panels = conv.outputs.div_ceil(LANES);
        let weights = conv.weights.read(0, panels * conv.panel(), scratch);
        let mut rows = [[0.0; GATHERED]; MOST_ROWS];
        let depth = conv.windows.taps * conv.inputs;
        let Range { start: mut pixel, end } = self.range;
        while pixel < end {
            let count = L::ROWS.min(end - pixel);
            for (m, row) in rows.iter_mut().take(count).enumerate() {
                let offsets = &conv.windows.offsets[(pixel + m) * conv.windows.taps..][..conv.windows.taps];
                for (to, &at) in row[..depth].chunks_exact_mut(conv.inputs).zip(offsets) {
                    match at {
                        OUTSIDE => to.fill(0.0),
                        at => to.copy_from_slice(&self.input[at as usize..][..conv.inputs]),
                    }
                }
            }
            for panel in 0..panels {
                let weights = &weights[panel * conv.panel()..][..conv.panel()];
                let mut done = 0;
                while done < count {
                    done += match count - done {
                        12.. => self.gathered_block::<12>(&rows, done, depth, weights, panel, pixel),
                        6.. => self.gathered_block::<6>(&rows, done, depth, weights, panel, pixel),
                        2.. => self.gathered_block::<2>(&rows, done, depth, weights, panel, pixel),
                        _ => self.gathered_block::<1>(&rows, done, depth, weights, panel, pixel),
                    };
                }
            }
            pixel += count;
        }
    }

    #[inline(always)]
    fn gathered_block<const M: usize>(
        &mut self,
        rows: &[[f32; GATHERED]; MOST_ROWS],
        first: usize,
        depth: usize,
        weights: &[f32],
        panel: usize,
        pixel: usize,
    ) -> usize {
        let outputs = self.conv.outputs;
        let mut acc = [self.first::<1>(panel * LANES, outputs - panel * LANES); M];
        let own: [&[f32]; M] = std::array::from_fn(|m| &rows[first + m][..depth]);
        accumulate(self.lanes, own, [weights], &mut acc);
        self.put(&acc, pixel + first, 0, panel * LANES, outputs);
        M
    }

    /// Few outputs: sixteen inputs at a time.
    #[inline(always)]
    fn dot(&mut self, scratch: &mut [f32]) {
        let (lanes, conv) = (self.lanes, self.conv);
        let (taps, inputs) = (conv.windows.taps, conv.inputs);
        let weights = conv.weights.read(0, conv.outputs * taps * inputs, scratch);
        for pixel in self.range.clone() {
            let offsets = &conv.windows.offsets[pixel * taps..(pixel + 1) * taps];
            for o in 0..conv.outputs {
                let mut acc = lanes.splat(0.0);
                for (tap, &at) in offsets.iter().enumerate().filter(|(_, at)| **at != OUTSIDE) {
                    let x = self.input[at as usize..][..inputs].as_chunks::<LANES>().0;
                    let w = weights[(o * taps + tap) * inputs..][..inputs].as_chunks::<LANES>().0;
                    for (x, w) in x.iter().zip(w) {
                        acc = lanes.fma(lanes.load(x), lanes.load(w), acc);
                    }
                }
                let result = sum(lanes, acc) + self.bias.map_or(0.0, |bias| bias[o]);
                self.row(pixel)[o] = result;
            }
        }
    }

    #[inline(always)]
    fn depthwise(&mut self, scratch: &mut [f32]) {
        let (lanes, conv) = (self.lanes, self.conv);
        let (taps, channels) = (conv.windows.taps, conv.inputs);
        let weights = conv.weights.read(0, taps * channels, scratch);
        for first in (0..channels).step_by(LANES) {
            let own = first..channels.min(first + LANES);
            let bias = self.first::<1>(first, channels - first)[0];
            for pixel in self.range.clone() {
                let offsets = &conv.windows.offsets[pixel * taps..(pixel + 1) * taps];
                let mut acc = bias;
                for (tap, &at) in offsets.iter().enumerate().filter(|(_, at)| **at != OUTSIDE) {
                    let x = load_some(lanes, &self.input[at as usize..][own.clone()]);
                    let w = load_some(lanes, &weights[tap * channels..][own.clone()]);
                    acc = lanes.fma(x, w, acc);
                }
                store_some(lanes, acc, &mut self.row(pixel)[own.clone()]);
            }
        }
    }
}
