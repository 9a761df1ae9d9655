//! Layers to measure: a step over an arena, with constants of their own.
//!
//! `cargo bench` in this folder runs every kernel that this processor has. Multiply-accumulates or elements a second are
//! criterion's throughput.

use flowlet_kernels::conv::pack;
use flowlet_kernels::plan::{
    Add, AddParams, Conv, DType, Epilogue, Map, MatMul, Matrices, Mul, Norm, NormKind, Packing, Pool, PoolKind, RowKey,
    Slot, Softmax, Split, Step,
};

/// A step with the memory that it works in.
pub struct Layer {
    /// What it is called in the report.
    pub name: String,
    /// The step.
    pub step: Step<'static>,
    /// The arena.
    pub arena: Vec<i8>,
}

/// The shape of a convolution: `[size, size, inputs] -> [size, size, outputs]`, or one pixel of a fully connected layer.
pub struct Shape {
    /// What it is called in the report.
    pub name: &'static str,
    /// Rows and columns of the images.
    pub size: [u16; 2],
    /// Input channels.
    pub inputs: u16,
    /// Output channels.
    pub outputs: u16,
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Groups of channels.
    pub groups: u16,
}

/// Convolutions of image networks, a 1-D policy network and its fully connected layers.
pub const SHAPES: &[Shape] = &[
    Shape { name: "3x3 28x28x1-32", size: [28, 28], inputs: 1, outputs: 32, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 28x28x3-32", size: [28, 28], inputs: 3, outputs: 32, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 28x28x32-1", size: [28, 28], inputs: 32, outputs: 1, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 28x28x32-3", size: [28, 28], inputs: 32, outputs: 3, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 32x32x16-16", size: [32, 32], inputs: 16, outputs: 16, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 28x28x32-32", size: [28, 28], inputs: 32, outputs: 32, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 14x14x64-64", size: [14, 14], inputs: 64, outputs: 64, kernel: [3, 3], groups: 1 },
    Shape { name: "3x3 7x7x128-128", size: [7, 7], inputs: 128, outputs: 128, kernel: [3, 3], groups: 1 },
    Shape { name: "1x1 14x14x64-64", size: [14, 14], inputs: 64, outputs: 64, kernel: [1, 1], groups: 1 },
    Shape { name: "depthwise 3x3 14x14x64", size: [14, 14], inputs: 64, outputs: 64, kernel: [3, 3], groups: 64 },
    Shape { name: "depthwise 5x5 14x14x64", size: [14, 14], inputs: 64, outputs: 64, kernel: [5, 5], groups: 64 },
    Shape { name: "1-D 5 16x512-512", size: [1, 16], inputs: 512, outputs: 512, kernel: [1, 5], groups: 1 },
    Shape { name: "fully connected 256-256", size: [1, 1], inputs: 256, outputs: 256, kernel: [1, 1], groups: 1 },
    Shape { name: "fully connected 1024-1024", size: [1, 1], inputs: 1024, outputs: 1024, kernel: [1, 1], groups: 1 },
];

/// A convolution in a packing, or `None` if no kernel runs it so.
pub fn conv(shape: &Shape, packing: Packing) -> Option<Layer> {
    let [height, width] = shape.size;
    let slot = |offset, channels| slot(offset, [height, width, channels]);
    let input = slot(0, shape.inputs);
    let output = slot(input.end(), shape.outputs);
    let (outputs, inputs) = (usize::from(shape.outputs), usize::from(shape.inputs / shape.groups));
    let taps = usize::from(shape.kernel[0]) * usize::from(shape.kernel[1]);
    let filters: Vec<u8> = bytes(outputs * taps * inputs).map(|w| w.max(-127) as u8).collect();
    let mut weights = vec![0; packing.bytes(outputs, shape.kernel, inputs)];
    pack::pack(packing, &filters, outputs, shape.kernel, inputs, &mut weights);
    let words = |word: i32| -> &'static [u8] { word.to_le_bytes().repeat(packing.padded_outputs(outputs)).leak() };
    let step = Conv {
        input,
        output,
        kernel: shape.kernel,
        stride: [1, 1],
        dilation: [1, 1],
        pad: shape.kernel.map(|k| k / 2),
        upsample: 1,
        groups: shape.groups,
        input_zero_point: -3,
        weights: weights.leak(),
        packing,
        scratch: None,
        epilogue: Epilogue {
            multipliers: words(4_000_000),
            bias: words(100),
            row: RowKey::Fixed,
            left_shift: 0,
            zero_point: 5,
            residual: None,
            table: None,
        },
    };
    step.fits(output.end()).then(|| layer(format!("conv {} {}", shape.name, name(packing)), Step::Conv(step)))
}

/// One layer of every other operator.
pub fn others() -> Vec<Layer> {
    let image = [28, 28, 32];
    let [a, b, c] = [0, 1, 2].map(|n| slot(n * 28 * 28 * 32, image));
    let params = AddParams { ma: 9000, mb: -5000, c: 77, shift: 14 };
    let table: &'static [u8; 256] = Box::leak(Box::new(std::array::from_fn(|i| 255 - i as u8)));
    let exponentials: &'static [u8; 512] = Box::leak(Box::new([255; 512]));
    let words = |word: i32| -> &'static [u8] { word.to_le_bytes().repeat(32).leak() };
    let law = (4_000_000, 3);
    let norm = |kind| Norm {
        input: a,
        output: b,
        kind,
        input_zero_point: 3,
        epsilon: 1000,
        gain: words(1 << 20),
        gain_shift: 20,
        offset: words(1 << 10),
        table: Some(table),
    };
    let average = PoolKind::Average { input_zero_point: 1, multiplier: law.0, left_shift: law.1, zero_point: 2 };
    let pool = |kind| Pool {
        input: a,
        output: slot(c.end(), [14, 14, 32]),
        kernel: [2, 2],
        stride: [2, 2],
        pad: [0, 0],
        kind,
    };
    // Four heads of 196 tokens.
    let [q, k, scores] = [slot(0, [1, 196, 128]), slot(196 * 128, [1, 196, 128]), slot(2 * 196 * 128, [4, 196, 196])];
    let heads = |slot| Matrices { slot, split: Split::Channels };
    let matmul = MatMul {
        a: heads(q),
        b: heads(k),
        output: Matrices { slot: scores, split: Split::Rows },
        batch: 4,
        transposed: true,
        a_zero_point: 3,
        multiplier: law.0,
        left_shift: law.1,
        zero_point: 0,
        scratch: None,
    };
    let softmax = slot(0, [1, 196, 196]);
    [
        ("add 28x28x32", Step::Add(Add { a, b, output: c, params, table: None })),
        ("add with table 28x28x32", Step::Add(Add { a, b, output: c, params, table: Some(table) })),
        (
            "mul 28x28x32",
            Step::Mul(Mul {
                a,
                b,
                output: c,
                a_zero_point: 1,
                b_zero_point: 2,
                multiplier: law.0,
                left_shift: law.1,
                zero_point: 3,
                table: None,
            }),
        ),
        ("map 28x28x32", Step::Map(Map { input: a, output: b, table: Some(table) })),
        ("softmax 196x196", Step::Softmax(Softmax { input: softmax, output: softmax, table: exponentials })),
        ("layer norm 28x28x32", Step::Norm(norm(NormKind::Layer))),
        ("group norm 28x28x32", Step::Norm(norm(NormKind::Group { groups: 8 }))),
        ("average pool 2x2 28x28x32", Step::Pool(pool(average))),
        ("max pool 2x2 28x28x32", Step::Pool(pool(PoolKind::Max))),
        ("matmul 4 x 196x32x196", Step::MatMul(matmul)),
    ]
    .map(|(name, step)| layer(name.to_owned(), step))
    .into()
}

/// What a packing is called in the report.
fn name(packing: Packing) -> String {
    match packing {
        Packing::Panels(panels) => format!("{} by {}", panels.isa.name(), panels.nr),
        other => other.isa().name().to_owned(),
    }
}

fn layer(name: String, step: Step<'static>) -> Layer {
    let end = step.inputs().into_iter().flatten().chain([step.output()]).map(Slot::end).max().unwrap_or(0);
    Layer { name, step, arena: bytes(end).collect() }
}

fn slot(offset: usize, [height, width, channels]: [u16; 3]) -> Slot {
    Slot { offset: offset as u32, height, width, channels, pitch: channels, dtype: DType::S8, tensor: 0 }
}

fn bytes(n: usize) -> impl Iterator<Item = i8> {
    let mut state = 1u32;
    (0..n).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    })
}
