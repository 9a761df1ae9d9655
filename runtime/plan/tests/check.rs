//! One planted fault for each [`PlanError`], and the shapes of plan that must pass.

use flowlet_plan::*;

const QUANT: Quant = Quant { scale: 0.5, zero_point: 0 };

fn slot(tensor: u16, offset: u32, [height, width, channels]: [u16; 3]) -> Slot {
    Slot { offset, height, width, channels, pitch: channels, dtype: DType::S8, tensor }
}

fn range(tensor: u16, offset: u32, [height, width, channels]: [u16; 3], pitch: u16) -> Slot {
    Slot { pitch, ..slot(tensor, offset, [height, width, channels]) }
}

fn port(slot: Slot) -> Port<'static> {
    Port { name: "port", slot, quant: QUANT, inverse_scale: 2.0, unit: "" }
}

fn map(input: Slot, output: Slot) -> Step<'static> {
    Step::Map(Map { input, output, table: None })
}

fn add(a: Slot, b: Slot, output: Slot) -> Step<'static> {
    Step::Add(Add { a, b, output, params: AddParams { ma: 1, mb: 1, c: 0, shift: 1 }, table: None })
}

/// A 1x1 convolution from `input` to `output`.
fn conv(input: Slot, output: Slot) -> Conv<'static> {
    static ZEROS: [u8; 256] = [0; 256];
    let (i, o) = (usize::from(input.channels), usize::from(output.channels));
    Conv {
        input,
        output,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        upsample: 1,
        groups: 1,
        input_zero_point: 0,
        weights: &ZEROS[..i * o],
        packing: Packing::Ohwi,
        scratch: None,
        epilogue: Epilogue {
            multipliers: &ZEROS[..4 * o],
            bias: &ZEROS[..4 * o],
            row: RowKey::Fixed,
            left_shift: 0,
            zero_point: 0,
            residual: None,
            table: None,
        },
    }
}

const ONCE: &[Graph<'static>] = &[Graph { name: "run", first: 0, len: u16::MAX, iterations: 1 }];

/// Checks a plan of one entry point over all steps.
fn check(arena_bytes: u32, input: Slot, steps: &[Step<'_>], output: Slot) -> Result<(), PlanError> {
    let graphs = [Graph { len: steps.len() as u16, ..ONCE[0] }];
    plan(arena_bytes, &[port(input)], steps, &[port(output)], &graphs).check().map(drop)
}

fn plan<'a>(
    arena_bytes: u32,
    inputs: &'a [Port<'a>],
    steps: &'a [Step<'a>],
    outputs: &'a [Port<'a>],
    graphs: &'a [Graph<'a>],
) -> Plan<'a> {
    Plan {
        version: PLAN_VERSION,
        name: "test",
        model_hash: [0; 32],
        arena_bytes,
        state: None,
        inputs,
        indices: &[],
        outputs,
        graphs,
        steps,
        exactness: Exactness::Exact,
    }
}

const D: [u16; 3] = [2, 2, 4]; // 16 bytes

#[test]
fn version() {
    let (ports, steps) = ([port(slot(0, 0, D))], [map(slot(0, 0, D), slot(1, 16, D))]);
    let graphs = [Graph { len: 1, ..ONCE[0] }];
    let good = plan(32, &ports, &steps, &ports, &graphs);
    assert_eq!(good.check().map(drop), Ok(()));
    let found = PLAN_VERSION + 1;
    assert_eq!(Plan { version: found, ..good }.check().map(drop), Err(PlanError::Version { found }));
    assert_eq!(Plan { graphs: &[], ..good }.check().map(drop), Err(PlanError::Empty));
    assert_eq!(Plan { inputs: &[], ..good }.check().map(drop), Err(PlanError::Empty));
    assert_eq!(Plan { outputs: &[], ..good }.check().map(drop), Err(PlanError::Empty));
}

#[test]
fn ports() {
    let steps = [map(slot(0, 0, D), slot(1, 16, D))];
    let graphs = [Graph { len: 1, ..ONCE[0] }];
    let (input, output) = ([port(slot(0, 0, D))], [port(slot(1, 16, D))]);
    let outside = [port(slot(1, 17, D))];
    assert_eq!(
        plan(32, &input, &steps, &outside, &graphs).check().map(drop),
        Err(PlanError::PortOutOfBounds { port: 1 })
    );
    let misaligned = [port(Slot { dtype: DType::F32, ..slot(0, 2, [1, 1, 1]) })];
    assert_eq!(
        plan(32, &misaligned, &steps, &output, &graphs).check().map(drop),
        Err(PlanError::PortOutOfBounds { port: 0 })
    );
    for (scale, inverse_scale) in [(0.0, 1.0), (-0.5, -2.0), (f32::INFINITY, 0.0), (f32::NAN, 1.0), (0.5, 3.0)] {
        let input = [Port { quant: Quant { scale, zero_point: 0 }, inverse_scale, ..input[0] }];
        assert_eq!(
            plan(32, &input, &steps, &output, &graphs).check().map(drop),
            Err(PlanError::PortScale { port: 0 }),
            "{scale}"
        );
    }
    let inputs = [input[0], port(slot(2, 15, [1, 1, 1]))];
    assert_eq!(
        plan(32, &inputs, &steps, &output, &graphs).check().map(drop),
        Err(PlanError::PortOverlap { port: 0, other: 1 })
    );
}

#[test]
fn state() {
    let steps = [map(slot(0, 0, D), slot(1, 16, D))];
    let graphs = [Graph { len: 1, ..ONCE[0] }];
    let (input, output) = ([port(slot(0, 0, D))], [port(slot(1, 16, D))]);
    let good = plan(48, &input, &steps, &output, &graphs);
    assert!(Plan { state: Some(slot(2, 32, D)), ..good }.check().is_ok());
    for offset in [33, 31, 15] {
        let bad = Plan { state: Some(slot(2, offset, D)), ..good };
        assert_eq!(bad.check().map(drop), Err(PlanError::State), "{offset}");
    }
}

#[test]
fn steps_out_of_bounds() {
    let refused = |step: Step<'_>| {
        assert_eq!(
            check(64, slot(0, 0, D), &[step], slot(1, 16, D)),
            Err(PlanError::StepOutOfBounds { step: 0 }),
            "{step:?}"
        );
    };
    let (x, y) = (slot(0, 0, D), slot(1, 16, D));
    let good = conv(x, y);
    assert_eq!(check(64, x, &[Step::Conv(good)], y), Ok(()));
    let conv = |change: &dyn Fn(&mut Conv<'static>)| {
        let mut step = good;
        change(&mut step);
        refused(Step::Conv(step));
    };
    conv(&|s| s.output.offset = 49);
    conv(&|s| s.input.offset = u32::MAX);
    conv(&|s| s.output.pitch = 3);
    conv(&|s| s.output.height = 0);
    conv(&|s| s.kernel[1] = 0);
    conv(&|s| s.stride[0] = 0);
    conv(&|s| s.upsample = 3);
    conv(&|s| s.epilogue.left_shift = 31);
    conv(&|s| s.weights = &s.weights[1..]);
    conv(&|s| s.epilogue.multipliers = &s.epilogue.multipliers[1..]);
    conv(&|s| s.epilogue.bias = &[]);
    conv(&|s| s.epilogue.bias = &s.epilogue.bias[1..]);
    conv(&|s| s.input.dtype = DType::F32);
    let residual = |slot, shift| Some(Residual { slot, params: AddParams { ma: 1, mb: 1, c: 0, shift } });
    conv(&|s| s.epilogue.residual = residual(slot(2, 32, [2, 1, 4]), 1));
    conv(&|s| s.epilogue.residual = residual(slot(2, 49, D), 1));
    conv(&|s| s.epilogue.residual = residual(slot(2, 32, D), 0));
    conv(&|s| s.epilogue.residual = residual(slot(2, 32, D), 31));
    refused(map(x, slot(1, 16, [2, 2, 3])));
    refused(map(x, slot(1, 49, D)));
    refused(add(x, slot(2, 32, [4, 1, 4]), y));
    let shuffle = |output, block| Step::Shuffle(Shuffle { input: x, output, block, kind: ShuffleKind::PixelUnshuffle });
    refused(shuffle(slot(1, 16, [1, 1, 15]), 2));
    refused(shuffle(slot(1, 16, [1, 2, 8]), 2));
    refused(shuffle(slot(1, 16, D), 0));
    assert_eq!(check(64, x, &[shuffle(slot(1, 16, [1, 1, 16]), 2)], slot(1, 16, [1, 1, 16])), Ok(()));
}

#[test]
fn scratch() {
    let (x, y, z) = (slot(0, 0, D), slot(1, 16, D), slot(2, 32, D));
    let with = |offset| Step::Conv(Conv { scratch: Some(slot(9, offset, [1, 1, 8])), ..conv(x, y) });
    assert_eq!(check(64, x, &[with(48)], y), Ok(()));
    assert_eq!(check(64, x, &[with(60)], y), Err(PlanError::StepOutOfBounds { step: 0 }));
    assert_eq!(check(64, x, &[with(44)], y), Err(PlanError::StepOutOfBounds { step: 0 }), "it is misaligned");
    for offset in [0, 8, 16, 24] {
        assert_eq!(check(64, x, &[with(offset)], y), Err(PlanError::Scratch { step: 0 }), "{offset}");
    }
    // Over a tensor that a later step reads, and over one that nothing reads any more.
    assert_eq!(
        check(64, x, &[map(x, z), with(32), add(y, z, slot(3, 48, D))], y),
        Err(PlanError::LiveOverlap { step: 2, writer: 1 })
    );
    assert_eq!(check(64, x, &[map(x, z), map(z, slot(3, 48, D)), with(32)], y), Ok(()));
}

#[test]
fn huge_slots_do_not_wrap() {
    let huge = range(0, u32::MAX, [u16::MAX, u16::MAX, u16::MAX], u16::MAX);
    assert!(!huge.fits(u32::MAX as usize));
    assert!(!Slot { dtype: DType::F32, offset: 0, ..huge }.fits(1 << 20));
}

#[test]
fn read_before_write() {
    let (x, y, z) = (slot(0, 0, D), slot(1, 16, D), slot(2, 32, D));
    assert_eq!(check(64, x, &[map(y, z)], z), Err(PlanError::ReadBeforeWrite { step: 0 }));
    assert_eq!(check(64, x, &[map(x, y)], z), Err(PlanError::ReadBeforeWrite { step: 1 }));
    // The right tensor at the wrong place, and one of two parts of a concatenation.
    assert_eq!(check(64, x, &[map(x, y)], slot(1, 20, D)), Err(PlanError::ReadBeforeWrite { step: 1 }));
    let whole = slot(1, 16, [2, 2, 8]);
    let (low, high) = (range(1, 16, D, 8), range(1, 20, D, 8));
    assert_eq!(check(64, x, &[map(x, low)], whole), Err(PlanError::ReadBeforeWrite { step: 1 }));
    assert_eq!(check(64, x, &[map(x, low), map(x, high)], whole), Ok(()));
    assert_eq!(check(64, x, &[map(x, high), map(x, low)], whole), Ok(()));
    // Flattened, and taken apart again.
    assert_eq!(check(64, x, &[map(x, high), map(x, low)], slot(1, 16, [1, 1, 32])), Ok(()));
    assert_eq!(check(64, x, &[map(x, high), map(x, low)], range(1, 18, D, 8)), Ok(()));
}

#[test]
fn live_overlap() {
    let (x, y, z) = (slot(0, 0, D), slot(1, 16, D), slot(2, 32, D));
    // Step 1 reuses x, or one byte of it, while step 2 still reads it.
    for reused in [slot(3, 0, D), slot(3, 15, [1, 1, 1])] {
        let steps = [map(x, y), map(slot(1, 16, [reused.height, reused.width, reused.channels]), reused), add(x, y, z)];
        assert_eq!(check(64, x, &steps, z), Err(PlanError::LiveOverlap { step: 2, writer: 1 }));
    }
    // An output port is read at the end.
    let steps = [map(x, y), map(y, z), map(z, slot(3, 8, D))];
    assert_eq!(check(64, x, &steps, y), Err(PlanError::LiveOverlap { step: 3, writer: 2 }));
    assert_eq!(check(64, x, &steps, z), Ok(()));
}

#[test]
fn in_place() {
    let (x, y) = (slot(0, 0, D), slot(1, 0, D));
    assert_eq!(check(64, x, &[map(x, y)], y), Ok(()));
    assert_eq!(check(64, x, &[add(x, x, y)], y), Ok(()));
    assert_eq!(check(64, x, &[Step::Conv(conv(x, y))], y), Err(PlanError::InPlace { step: 0 }));
    // One byte further on is not the same place.
    let shifted = slot(1, 1, D);
    assert_eq!(check(64, x, &[map(x, shifted)], shifted), Err(PlanError::InPlace { step: 0 }));
    let packed = slot(1, 0, [1, 1, 16]);
    let shuffle = Shuffle { input: x, output: packed, block: 2, kind: ShuffleKind::PixelUnshuffle };
    assert_eq!(check(64, x, &[Step::Shuffle(shuffle)], packed), Err(PlanError::InPlace { step: 0 }));
    // A residual may be overwritten, the input may not.
    let (skip, out) = (slot(2, 16, D), slot(3, 16, D));
    let mut step = conv(x, out);
    step.epilogue.residual = Some(Residual { slot: skip, params: AddParams { ma: 1, mb: 1, c: 0, shift: 1 } });
    assert_eq!(check(64, x, &[map(x, skip), Step::Conv(step)], out), Ok(()));
    step.epilogue.residual = step.epilogue.residual.map(|r| Residual { slot: slot(2, 17, D), ..r });
    let steps = [map(x, slot(2, 17, D)), Step::Conv(step)];
    assert_eq!(check(64, x, &steps, out), Err(PlanError::InPlace { step: 1 }));
    // From one channel range of a tensor into another.
    let (low, high) = (range(1, 16, D, 8), range(1, 20, D, 8));
    assert_eq!(check(64, x, &[map(x, low), map(low, high)], slot(1, 16, [2, 2, 8])), Ok(()));
    let steps = [map(x, low), map(low, range(1, 19, D, 8))];
    assert_eq!(check(64, x, &steps, low), Err(PlanError::InPlace { step: 1 }));
}

#[test]
fn collision() {
    let x = slot(0, 0, D);
    let steps = [map(x, range(1, 16, D, 8)), map(x, range(1, 19, D, 8))];
    assert_eq!(check(64, x, &steps, range(1, 16, D, 8)), Err(PlanError::Collision { step: 1 }));
}

#[test]
fn rows() {
    let (x, y) = (slot(0, 0, D), slot(1, 16, D));
    static BANK: [u8; 4 * 4 * 3] = [0; 4 * 4 * 3];
    let (inputs, outputs) = ([port(x)], [port(y)]);
    let check = |row, count, iterations, rows: usize| {
        let mut step = conv(x, y);
        (step.epilogue.row, step.epilogue.bias) = (row, &BANK[..16 * rows]);
        let steps = [Step::Conv(step)];
        let graphs = [Graph { len: 1, iterations, ..ONCE[0] }];
        let indices = [Index { name: "label", count }];
        Plan { indices: &indices, ..plan(32, &inputs, &steps, &outputs, &graphs) }.check().map(drop)
    };
    let refused = Err(PlanError::Rows { step: 0 });
    assert_eq!(check(RowKey::Fixed, 9, 9, 1), Ok(()));
    assert_eq!(check(RowKey::Index(0), 3, 1, 3), Ok(()));
    assert_eq!(check(RowKey::Index(0), 3, 1, 2), refused);
    assert_eq!(check(RowKey::Index(0), 0, 1, 2), refused);
    assert_eq!(check(RowKey::Index(1), 3, 1, 3), refused);
    assert_eq!(check(RowKey::Iteration, 9, 3, 3), Ok(()));
    assert_eq!(check(RowKey::Iteration, 9, 3, 2), refused);
}

#[test]
fn graph_ranges() {
    let (x, y) = (slot(0, 0, D), slot(1, 16, D));
    let (inputs, steps, outputs) = ([port(x)], [map(x, y)], [port(y)]);
    for graph in [
        Graph { first: 0, len: 2, ..ONCE[0] },
        Graph { first: 2, len: 0, ..ONCE[0] },
        Graph { first: 0, len: 1, iterations: 0, ..ONCE[0] },
    ] {
        let graphs = [Graph { len: 1, ..ONCE[0] }, graph];
        let refused = Err(PlanError::GraphRange { graph: 1 });
        assert_eq!(plan(32, &inputs, &steps, &outputs, &graphs).check().map(drop), refused);
    }
}

/// A sampler's state survives the round, and its scratch may not reuse it.
#[test]
fn repeated_rounds() {
    let (x, v) = (slot(0, 0, D), slot(1, 16, D));
    let (inputs, outputs) = ([port(x)], [port(x)]);
    let graphs = [Graph { len: 2, iterations: 4, ..ONCE[0] }];
    let steps = [map(x, v), add(x, v, x)];
    assert_eq!(plan(32, &inputs, &steps, &outputs, &graphs).check().map(drop), Ok(()));
    // In the first round nothing reads x after step 1 has reused it; in the second, step 0 does.
    let steps = [map(x, v), map(v, slot(2, 0, D))];
    let outputs = [port(slot(2, 0, D))];
    let refused = Err(PlanError::LiveOverlap { step: 0, writer: 1 });
    assert_eq!(plan(32, &inputs, &steps, &outputs, &graphs).check().map(drop), refused);
    let once = [Graph { iterations: 1, ..graphs[0] }];
    assert_eq!(plan(32, &inputs, &steps, &outputs, &once).check().map(drop), Ok(()));
}

/// `encode` leaves a tensor that `act`, called more often, must not destroy.
#[test]
fn held_tensors() {
    let (image, held) = (slot(0, 0, D), slot(1, 16, D));
    let (noise, action) = (slot(2, 32, D), slot(3, 48, D));
    let graphs = [
        Graph { name: "encode", first: 0, len: 1, iterations: 1 },
        Graph { name: "act", first: 1, len: 2, iterations: 1 },
    ];
    let inputs = [port(image), port(noise)];
    let check = |scratch: Slot| {
        let steps = [map(image, held), add(held, noise, action), map(action, scratch)];
        plan(80, &inputs, &steps, &[port(action)], &graphs).check().map(drop)
    };
    assert_eq!(check(slot(4, 64, D)), Ok(()));
    assert_eq!(check(slot(4, 16, D)), Err(PlanError::LiveOverlap { step: 1, writer: 2 }));
}

#[test]
fn errors_say_what_and_where() {
    use std::string::ToString;
    assert_eq!(
        PlanError::LiveOverlap { step: 7, writer: 5 }.to_string(),
        "step 5 overwrites a tensor that step 7 still reads"
    );
    assert!(PlanError::Version { found: 9 }.to_string().contains("version 9"));
}
