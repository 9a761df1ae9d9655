//! The executor: what it computes, and what it refuses at its edges.

use flowlet::plan::*;
use flowlet::{Arena, Executor, Kind, Name, Progress, RunError, kernels, port};

const fn slot(tensor: u16, offset: u32, [height, width, channels]: [u16; 3], pitch: u16) -> Slot {
    Slot { offset, height, width, channels, pitch, dtype: DType::S8, tensor }
}

const fn port(name: &'static str, slot: Slot) -> Port<'static> {
    Port { name, slot, quant: Quant { scale: 0.25, zero_point: -3 }, inverse_scale: 4.0, unit: "standard deviations" }
}

const NOISE: Slot = slot(0, 0, [2, 2, 3], 3);
const HIDDEN: Slot = slot(1, 16, [2, 2, 4], 4);
const IMAGE: Slot = slot(2, 0, [2, 2, 3], 3);
const WEIGHTS: [u8; 12] = [1, 2, 3, 255, 0, 1, 4, 252, 1, 7, 7, 7];
const BACK: [u8; 12] = [9, 1, 0, 255, 2, 2, 250, 1, 1, 1, 3, 0];
static MULTIPLIERS: [u8; 16] = [0, 0, 0, 16, 0, 0, 0, 32, 0, 0, 0, 16, 0, 0, 0, 8];
/// Two rows of four.
static BIAS: [u8; 32] = [
    5, 0, 0, 0, 250, 255, 255, 255, 0, 0, 0, 0, 100, 0, 0, 0, //
    50, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0,
];

const fn conv(input: Slot, output: Slot, weights: &'static [u8], row: RowKey) -> Conv<'static> {
    let (multipliers, _) = MULTIPLIERS.split_at(4 * output.channels as usize);
    let rows = if matches!(row, RowKey::Fixed) { 1 } else { 2 };
    let (bias, _) = BIAS.split_at(4 * rows * output.channels as usize);
    Conv {
        input,
        output,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        upsample: 1,
        groups: 1,
        input_zero_point: -3,
        weights,
        packing: Packing::Ohwi,
        scratch: None,
        epilogue: Epilogue { multipliers, bias, row, left_shift: 3, zero_point: 1, residual: None, table: None },
    }
}

const STEPS: [Step<'static>; 2] = [
    Step::Conv(conv(NOISE, HIDDEN, &WEIGHTS, RowKey::Index(0))),
    Step::Conv(conv(HIDDEN, IMAGE, &BACK, RowKey::Fixed)),
];
const PLAN: Plan<'static> = Plan {
    version: PLAN_VERSION,
    name: "test",
    model_hash: [7; 32],
    arena_bytes: 32,
    state: None,
    inputs: &[port("noise", NOISE)],
    indices: &[Index { name: "label", count: 2 }],
    outputs: &[port("image", IMAGE)],
    graphs: &[Graph { name: "generate", first: 0, len: 2, iterations: 1 }],
    steps: &STEPS,
    exactness: Exactness::Exact,
};
const CHECKED: CheckedPlan<'static> = match PLAN.check() {
    Ok(plan) => plan,
    Err(_) => panic!("the plan is wrong"),
};

/// What generated code does: the steps called directly on an arena of constant size.
fn straight_line(arena: &mut Arena<32>, seed: u64, label: usize) -> Vec<i8> {
    port::fill_noise(arena.bytes(), &PLAN.inputs[0], seed, 0).expect("the port lies in the arena");
    let [Step::Conv(first), Step::Conv(second)] = &STEPS else { panic!("two convolutions") };
    kernels::conv::run(arena.bytes(), first, label);
    kernels::conv::run(arena.bytes(), second, 0);
    arena.bytes()[..12].to_vec()
}

#[test]
fn executor_equals_straight_line_code() {
    let mut distinct = std::collections::BTreeSet::new();
    for seed in 0..64 {
        for label in 0..2 {
            let mut arena = Arena::<32>::new();
            let mut model = Executor::new(CHECKED, arena.bytes()).unwrap();
            model.set_index("label", label).unwrap();
            model.fill_noise("noise", seed).unwrap();
            model.run("generate").unwrap();
            let output = model.output("image").unwrap().to_vec();
            assert_eq!(output, straight_line(&mut Arena::new(), seed, usize::from(label)));
            distinct.insert(output);
        }
    }
    assert!(distinct.len() > 100, "{}", distinct.len());
}

#[test]
fn steps_one_kernel_at_a_time() {
    let (mut arena, mut whole) = (Arena::<32>::new(), Arena::<32>::new());
    let mut model = Executor::new(CHECKED, arena.bytes()).unwrap();
    assert_eq!(model.step(), Progress::Done);
    model.fill_noise("noise", 4).unwrap();
    model.begin("generate").unwrap();
    assert_eq!(model.output("image"), Err(RunError::Running));
    assert_eq!(model.fill_noise("noise", 5), Err(RunError::Running));
    assert_eq!(model.set_index("label", 1), Err(RunError::Running));
    assert_eq!(model.begin("generate"), Err(RunError::Running));
    assert_eq!(model.step(), Progress::Pending);
    assert_eq!(model.step(), Progress::Done);
    assert_eq!(model.step(), Progress::Done);
    assert_eq!(model.output("image").unwrap(), straight_line(&mut whole, 4, 0));
    model.fill_noise("noise", 5).unwrap();
    model.begin("generate").unwrap();
    model.cancel();
    assert!(model.output("image").is_ok());
}

#[test]
fn an_arena_that_does_not_serve_is_refused() {
    let mut arena = Arena::<64>::new();
    let bytes = arena.bytes();
    let error = Executor::new(CHECKED, &mut bytes[..31]).unwrap_err();
    assert_eq!(error, RunError::ArenaTooSmall { need_bytes: 32, have_bytes: 31 });
    assert_eq!(error.to_string(), "the arena has 31 bytes and the model needs 32: give it 1 more");
    let error = Executor::new(CHECKED, &mut bytes[3..]).unwrap_err();
    assert_eq!(error, RunError::ArenaMisaligned { skip_bytes: 13 });
    assert!(error.to_string().contains("13 bytes"));
    assert!(Executor::new(CHECKED, &mut bytes[16..]).is_ok());
    let indices = [PLAN.indices[0]; 9];
    let many = Plan { indices: &indices, ..PLAN }.check().unwrap();
    assert_eq!(Executor::new(many, bytes).unwrap_err(), RunError::TooManyIndices { have: 9 });
}

#[test]
fn weights_for_kernels_that_are_not_here_are_refused_by_name() {
    let packing = kernels::conv::MVE_PANELS;
    let weights = [1; 64];
    let scratch = Some(slot(3, 32, [1, 7, 8], 8));
    let elsewhere = Conv { packing, weights: &weights, scratch, ..conv(NOISE, HIDDEN, &WEIGHTS, RowKey::Index(0)) };
    let steps = [Step::Conv(elsewhere), STEPS[1]];
    let plan = Plan { steps: &steps, arena_bytes: 88, ..PLAN }.check().unwrap();
    let error = Executor::new(plan, Arena::<88>::new().bytes()).unwrap_err();
    assert_eq!(error, RunError::NoKernel { isa: Isa::ArmMve, step: 0 });
    assert!(error.to_string().starts_with("step 0 is packed for arm_mve, whose kernels are not in this build"));
}

#[test]
fn bad_inputs_are_refused_with_their_place() {
    let mut arena = Arena::<32>::new();
    let mut model = Executor::new(CHECKED, arena.bytes()).unwrap();
    let name = Name::new("noise");

    let error = model.set_index("label", 2).unwrap_err();
    assert_eq!(error.to_string(), "label = 2 is out of range: valid are 0 to 1");
    assert_eq!(model.set_index(1, 0), Err(RunError::Unknown { kind: Kind::Index, name: Name::new("1") }));
    assert_eq!(model.set_index("klass", 0).unwrap_err().to_string(), "the model has no index input \"klass\"");

    let mut values = [0.0; 12];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        values[7] = bad;
        let error = model.write_f32("noise", &values).unwrap_err();
        assert_eq!(error, RunError::NotFinite { name, element: 7 });
        assert!(error.to_string().starts_with("element 7 of \"noise\""));
    }
    assert!(model.arena().iter().all(|&byte| byte == 0), "a refused input leaves the arena as it was");
    let error = model.write_f32("noise", &values[..11]).unwrap_err();
    assert_eq!(error, RunError::WrongLength { name, need: 12, have: 11 });
    assert_eq!(model.write_s8("noise", &[0; 13]), Err(RunError::WrongLength { name, need: 12, have: 13 }));
    assert!(matches!(model.output("picture"), Err(RunError::Unknown { kind: Kind::Output, .. })));
    assert!(matches!(model.fill_noise(1, 0), Err(RunError::Unknown { kind: Kind::Input, .. })));

    // Nothing was written; later, what was written has been overwritten by the run.
    assert_eq!(model.run("generate"), Err(RunError::InputNotWritten { name }));
    assert!(matches!(model.run("encode"), Err(RunError::Unknown { kind: Kind::Graph, .. })));
    model.write_f32("noise", &[0.5; 12]).unwrap();
    model.run(0).unwrap();
    let error = model.run(0).unwrap_err();
    assert!(error.to_string().contains("\"noise\" was not written"), "{error}");
}

#[test]
fn ports_at_any_pitch_and_type() {
    let (wide, reals) = (slot(0, 0, [2, 2, 3], 5), Slot { dtype: DType::F32, ..slot(1, 32, [1, 2, 2], 3) });
    let inputs = [port("wide", wide), port("reals", reals)];
    let copy = [Step::Map(Map { input: wide, output: slot(2, 96, [2, 2, 3], 3), table: None })];
    let graphs = [Graph { name: "copy", first: 0, len: 1, iterations: 1 }];
    let outputs = [port("wide", wide), port("reals", reals), port("copy", slot(2, 96, [2, 2, 3], 3))];
    let plan = Plan {
        arena_bytes: 112,
        inputs: &inputs,
        outputs: &outputs,
        steps: &copy,
        graphs: &graphs,
        indices: &[],
        ..PLAN
    };
    let mut arena = Arena::<112>::new();
    let mut model = Executor::new(plan.check().unwrap(), arena.bytes()).unwrap();
    let values: [f32; 12] = core::array::from_fn(|i| i as f32 * 0.25);
    model.write_f32("wide", &values).unwrap();
    model.run("copy").unwrap();
    let quantised: [i8; 12] = core::array::from_fn(|i| i as i8 - 3);
    assert_eq!(model.output("copy").unwrap(), quantised);
    let mut read = [0; 12];
    model.read_s8("wide", &mut read).unwrap();
    assert_eq!(read, quantised);
    let mut back = [0.0; 12];
    model.read_f32("wide", &mut back).unwrap();
    assert_eq!(back, values);
    assert_eq!(model.arena()[3..5], [0, 0], "gaps between pixels belong to others");
    assert!(matches!(model.output("wide"), Err(RunError::Strided { .. })));
    assert!(matches!(model.input_mut("wide"), Err(RunError::Strided { .. })));

    // The same noise whatever the pitch.
    model.fill_noise("wide", 9).unwrap();
    model.read_s8("wide", &mut read).unwrap();
    let mut contiguous = [0; 12];
    kernels::noise::fill_s8(&mut contiguous, 9, 0, 4.0, -3);
    assert_eq!(read, contiguous);

    model.write_f32("reals", &[1.0, -2.5, 1e30, 0.1]).unwrap();
    let mut four = [0.0; 4];
    model.read_f32("reals", &mut four).unwrap();
    assert_eq!(four, [1.0, -2.5, 1e30, 0.1]);
    model.fill_noise("reals", 9).unwrap();
    model.read_f32("reals", &mut four).unwrap();
    assert_eq!(four, core::array::from_fn(|i| kernels::noise::element_f32(9, 1, i as u32)));
    assert!(matches!(model.output("reals"), Err(RunError::WrongType { .. })));
    assert!(matches!(model.write_s8("reals", &[0; 4]), Err(RunError::WrongType { .. })));
}

/// A sampler of three rounds whose bias bank is read by round: `x = x + row`.
#[test]
fn rounds_choose_rows() {
    let x = slot(0, 0, [1, 1, 1], 1);
    let v = slot(1, 16, [1, 1, 1], 1);
    let bias: Vec<u8> = [2i32, 3, 7].iter().flat_map(|row| row.to_le_bytes()).collect();
    let one = (1i32 << 30).to_le_bytes();
    let mut row = conv(x, v, &[0], RowKey::Iteration);
    row.epilogue = Epilogue { multipliers: &one, bias: &bias, left_shift: 2, zero_point: 0, ..row.epilogue };
    let params = AddParams { ma: 2, mb: 2, c: 0, shift: 1 };
    let steps = [Step::Conv(row), Step::Add(Add { a: x, b: v, output: x, params, table: None })];
    let graphs = [Graph { name: "sample", first: 0, len: 2, iterations: 3 }];
    let (inputs, outputs) = ([port("x", x)], [port("x", x)]);
    let plan = Plan { inputs: &inputs, outputs: &outputs, indices: &[], steps: &steps, graphs: &graphs, ..PLAN };
    let mut arena = Arena::<32>::new();
    let mut model = Executor::new(plan.check().unwrap(), arena.bytes()).unwrap();
    model.write_s8("x", &[100]).unwrap();
    model.begin("sample").unwrap();
    let mut seen = vec![];
    while model.step() == Progress::Pending {
        seen.push(model.arena()[0]);
    }
    assert_eq!(seen, [100, 102, 102, 105, 105]);
    assert_eq!(model.output("x").unwrap(), [112]);
    // The state belongs to the plan's own tensor, so a second call goes on from it.
    model.run("sample").unwrap();
    assert_eq!(model.output("x").unwrap(), [124]);
}

#[test]
fn names_are_cut_at_a_character() {
    assert_eq!(Name::new("noise").as_str(), "noise");
    let long = "grüße/".repeat(9);
    let cut = Name::new(&long);
    assert!(long.starts_with(cut.as_str()) && cut.as_str().len() >= 30);
    assert_eq!(Name::new(&format!("{}ü", "a".repeat(30))).as_str(), "a".repeat(30));
}

#[cfg(feature = "digest")]
#[test]
fn digest_covers_ports_without_their_gaps() {
    use flowlet::Digester;
    use sha2::{Digest as _, Sha256};
    let mut arena = Arena::<32>::new();
    let mut model = Executor::new(CHECKED, arena.bytes()).unwrap();
    model.fill_noise("noise", 1).unwrap();
    model.run("generate").unwrap();
    let mut digester = Digester::new();
    digester.add(&model);
    digester.add_bytes(model.output("image").unwrap());
    digester.add_port(&[1, 2, 99, 3, 4], &port("strided", slot(0, 0, [1, 2, 2], 3)));
    let bytes: Vec<u8> = model.output("image").unwrap().iter().map(|&q| q as u8).collect();
    let want = Sha256::new().chain_update(&bytes).chain_update(&bytes).chain_update([1, 2, 3, 4]).finalize();
    let digest = digester.finish();
    assert_eq!(digest.0, <[u8; 32]>::from(want));
    assert_eq!(digest.to_string(), format!("{want:x}"));
}
