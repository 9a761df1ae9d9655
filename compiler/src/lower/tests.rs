//! Lowered graphs against the interpreter, and the memory planner against its rules.

use super::*;
use crate::interp;
use crate::ir::{Tensor, parse};
use crate::target::{Memory, MemoryKind};
use flowlet_kernels::step;
use flowlet_plan::{Isa, Plan, RowKey, Step};

mod random;

/// The start of every text: one s8 picture of 4 channels and a label.
const HEAD: &str = r#"graph "t" (%x: s8[1,4,6,6] q(0.5,-3), %label: i64[1] index(3)) -> (%y) {
  meta "unit.x" = "standard deviations"
  const @m4: i32[4] = splat 90000000
  const @m8: i32[8] = splat 80000000
  const @b4: i32[1,4] = random 5
  const @b8: i32[1,8] = random 6
  const @b8l: i32[3,8] = random 7
  const @w3: s8[8,4,3,3] = random 1
  const @w1: s8[4,8,1,1] = random 2
  const @w4: s8[4,4,3,3] = random 3
  const @table: s8[256] = random 4
"#;

pub(super) fn graph(body: &str) -> Graph {
    let graph = parse(&format!("{HEAD}{body}}}\n"), &[]).unwrap();
    verify(&graph, Stage::Quantized).unwrap();
    graph
}

fn lowered(body: &str) -> Lowered {
    lower(&graph(body), [7; 32], &Target::host()).unwrap()
}

/// `[1, C, H, W]` in ONNX order to NHWC bytes.
fn nhwc(tensor: &Tensor) -> Vec<i8> {
    let values = tensor.as_s8().unwrap();
    let channels = tensor.dims[1];
    let pixels = values.len() / channels;
    (0..values.len()).map(|i| values[i % channels * pixels + i / channels]).collect()
}

/// Runs every step in order by its definition, which reads any packing.
pub(super) fn execute(plan: &Plan<'_>, arena: &mut [i8], indices: &[usize]) {
    for step in plan.steps {
        let before = arena.to_vec();
        let row = step.bank().map_or(0, |(key, _)| row(key, indices));
        step::run_reference(&before, arena, step, row);
    }
}

fn row(key: RowKey, indices: &[usize]) -> usize {
    match key {
        RowKey::Fixed | RowKey::Iteration => 0,
        RowKey::Index(n) => indices[usize::from(n)],
    }
}

/// Same bytes from the interpreter and from the plan of every target, for a few inputs; the host's plan.
pub(super) fn equal(graph: &Graph) -> Lowered {
    let hosts = Isa::ALL.map(|isa| Target { name: isa.name().into(), isa, ..Target::host() });
    for target in crate::target::TARGETS.iter().chain(&hosts) {
        equal_on(graph, target);
    }
    lower(graph, [7; 32], &Target::host()).unwrap()
}

fn equal_on(graph: &Graph, target: &Target) {
    let lowered = lower(graph, [7; 32], target).unwrap();
    lowered.with_plan(|plan| {
        for seed in 0..3 {
            let inputs: Vec<Tensor> = graph
                .inputs
                .iter()
                .map(|&id| match graph.ty(id) {
                    ty if ty.quant.is_none() => Tensor::i64(&[1], vec![seed as i64]),
                    ty => {
                        let spread = |i: usize| (((i * 37 + seed * 101) * 2_654_435_761) >> 7) as i8;
                        Tensor::s8(&ty.dims, (0..ty.elements()).map(spread).collect())
                    }
                })
                .collect();
            let expected = interp::run(graph, &inputs).unwrap();
            let mut arena = vec![0x55i8; lowered.arena_bytes];
            let tensors = inputs.iter().filter(|t| t.as_s8().is_some());
            for (port, tensor) in plan.inputs.iter().zip(tensors) {
                arena[port.slot.offset as usize..port.slot.end()].copy_from_slice(&nhwc(tensor));
            }
            execute(&plan, &mut arena, &vec![seed; plan.indices.len()]);
            for (port, tensor) in plan.outputs.iter().zip(&expected) {
                assert_eq!(port.slot.pitch, port.slot.channels);
                let place = port.slot.offset as usize..port.slot.end();
                assert_eq!(arena[place], nhwc(tensor), "output {} on {}", port.name, target.name);
            }
        }
    });
}

const RESIDUAL: &str = r#"
  %c = qconv %x, @w3, @m8, @b8l, %label {pad=[1,1,1,1], left_shift=1, zero_point=5, indexed=1} : s8[1,8,6,6] q(0.5,5) from "net/conv1"
  %y = qconv %c, @w1, @m4, @b4, %x, @table {left_shift=1, zero_point=-7, residual=[9000,8000,1000,14], table=1} : s8[1,4,6,6] q(0.25,1) from "net/conv2"
"#;

#[test]
fn a_residual_is_added_in_place_of_its_operand() {
    let lowered = equal(&graph(RESIDUAL));
    assert_eq!(lowered.steps.len(), 2);
    assert_eq!(lowered.steps[1].output.offset, lowered.steps[1].inputs[1].offset);
    assert_eq!(lowered.arena_bytes, (4 + 8) * 36);
    assert_eq!(lowered.arena_bytes, lowered.memory.lower_bound_bytes.next_multiple_of(16));
    assert_eq!(lowered.memory.tensors[2].over.as_deref(), Some("x"));
    assert_eq!(lowered.macs(), 36 * (8 * 36 + 32));
    lowered.with_plan(|plan| assert_eq!(plan.macs(), lowered.macs()));
}

#[test]
fn what_a_part_of_a_concatenation_overwrites_lies_in_it_too() {
    let lowered = equal(&graph(
        r#"
  %a = qmap %x, @table : s8[1,4,6,6] q(0.5,0) from "a"
  %s = qconv %a, @w3, @m8, @b8l, %label {pad=[1,1,1,1], left_shift=1, zero_point=0, indexed=1} : s8[1,8,6,6] q(0.5,0) from "s"
  %c = qconv %a, @w3, @m8, @b8l, %label {pad=[1,1,1,1], left_shift=1, zero_point=0, indexed=1} : s8[1,8,6,6] q(0.5,0) from "c"
  %d = qadd %s, %c {params=[400,300,-900,9]} : s8[1,8,6,6] q(0.5,0) from "d"
  %cat = concat %a, %d {axis=1} : s8[1,12,6,6] q(0.5,0) from "cat"
  %y = qmap %cat, @table : s8[1,12,6,6] q(0.5,0) from "y"
"#,
    ));
    assert_eq!(lowered.steps.len(), 5, "no copy");
    assert_eq!(lowered.arena_bytes, (4 + 8 + 8) * 36);
    assert_eq!(lowered.arena_bytes, lowered.memory.lower_bound_bytes);
}

#[test]
fn operands_of_a_concatenation_are_written_into_it() {
    let lowered = equal(&graph(
        r#"
  %a = qconv %x, @w4, @m4, @b4 {pad=[1,1,1,1], left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "a"
  %b = qconv %a, @w4, @m4, @b4 {pad=[1,1,1,1], left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "b"
  %cat = concat %b, %a {axis=1} : s8[1,8,6,6] q(0.5,0) from "cat"
  %y = qconv %cat, @w1, @m4, @b4 {left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "y"
"#,
    ));
    assert_eq!(lowered.steps.len(), 3, "no copy");
    let (a, b) = (lowered.steps[0].output, lowered.steps[1].output);
    assert_eq!((a.pitch, b.pitch, a.tensor), (8, 8, b.tensor));
    assert_eq!(a.offset, b.offset + 4, "in the order of the operands");
}

#[test]
fn an_input_or_a_repeated_operand_is_copied() {
    let lowered = equal(&graph(
        r#"
  %a = qmap %x, @table : s8[1,4,6,6] q(0.5,-3) from "a"
  %cat = concat %x, %a, %a {axis=1} : s8[1,12,6,6] q(0.5,-3) from "cat"
  %y = qmap %cat, @table : s8[1,12,6,6] q(0.5,-3) from "y"
"#,
    ));
    let copies = lowered.remarks.iter().filter(|r| r.pass == "plan_memory").count();
    assert_eq!((lowered.steps.len(), copies), (4, 2));
}

#[test]
fn concatenations_nest() {
    let lowered = equal(&graph(
        r#"
  %a = qconv %x, @w4, @m4, @b4 {pad=[1,1,1,1], left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "a"
  %b = qconv %a, @w4, @m4, @b4 {pad=[1,1,1,1], left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "b"
  %ab = concat %a, %b {axis=1} : s8[1,8,6,6] q(0.5,0) from "ab"
  %c = qconv %ab, @w1, @m4, @b4 {left_shift=1, zero_point=0} : s8[1,4,6,6] q(0.5,0) from "c"
  %abc = concat %c, %ab {axis=1} : s8[1,12,6,6] q(0.5,0) from "abc"
  %y = qmap %abc, @table : s8[1,12,6,6] q(0.5,0) from "y"
"#,
    ));
    assert_eq!((lowered.steps.len(), lowered.arena_bytes), (4, 4 * 36 + 12 * 36));
}

#[test]
fn upsampling_joins_the_convolutions_that_read_it() {
    let lowered = equal(&graph(
        r#"
  %u = upsample %x {factor=2} : s8[1,4,12,12] q(0.5,-3) from "up"
  %y = qconv %u, @w4, @m4, @b4 {pad=[1,1,1,1], left_shift=1, zero_point=0} : s8[1,4,12,12] q(0.5,0) from "y"
"#,
    ));
    assert_eq!(lowered.steps.len(), 1);
    lowered.with_plan(|plan| assert!(matches!(plan.steps[0], Step::Conv(c) if c.upsample == 2)));
}

#[test]
fn upsampling_for_other_readers_is_an_exact_convolution() {
    let lowered = equal(&graph(
        r#"
  %u = upsample %x {factor=2} : s8[1,4,12,12] q(0.5,-3) from "up"
  %y = qadd %u, %u {params=[100,200,7,8]} : s8[1,4,12,12] q(0.5,-3) from "y"
"#,
    ));
    assert_eq!((lowered.steps.len(), lowered.remarks[0].node.as_str()), (2, "up"));
}

#[test]
fn shuffles_and_sums() {
    equal(&graph(
        r#"
  %s = pixel_unshuffle %x {block=2} : s8[1,16,3,3] q(0.5,-3) from "s"
  %t = qmap %s, @table : s8[1,16,3,3] q(0.5,-3) from "t"
  %p = pixel_shuffle %t {block=2} : s8[1,4,6,6] q(0.5,-3) from "p"
  %y = qadd %p, %x, @table {params=[300,-200,77,9], table=1} : s8[1,4,6,6] q(0.5,-3) from "y"
"#,
    ));
}

#[test]
fn a_flattened_picture_feeds_a_linear_layer() {
    let lowered = equal(&graph(
        r#"
  const @fc: s8[8,144] = random 11
  %f = reshape %x {dims=[1,144]} : s8[1,144] q(0.5,-3) from "flatten"
  %h = qconv %f, @fc, @m8, @b8l, %label {left_shift=1, zero_point=0, indexed=1} : s8[1,8] q(0.5,0) from "fc"
  %r = reshape %h {dims=[1,8,1,1]} : s8[1,8,1,1] q(0.5,0) from "r"
  %y = qconv %r, @w1, @m4, @b4 {left_shift=1, zero_point=0} : s8[1,4,1,1] q(0.5,0) from "y"
"#,
    ));
    assert_eq!(lowered.steps.len(), 2);
}

#[test]
fn stride_and_uneven_padding() {
    equal(&graph(
        r#"
  %y = qconv %x, @w4, @m4, @b4 {stride=[2,2], pad=[0,0,1,1], left_shift=1, zero_point=0} : s8[1,4,3,3] q(0.5,0) from "y"
"#,
    ));
}

/// Quantised forms of the float filetests, so that scales and constants are sane.
fn quantised(file: &str) -> Graph {
    let text = match file {
        "norm" => include_str!("../../filetests/quantize/basic-group-norm-silu.ir"),
        "tokens" => include_str!("../../filetests/quantize/basic-tokens.ir"),
        "film" => include_str!("../../filetests/quantize/basic-operands-made-tensors.ir"),
        "attention" => include_str!("../../filetests/quantize/basic-attention.ir"),
        _ => include_str!("../../filetests/quantize/basic-affine-transposed.ir"),
    };
    let float = parse(text.split_once("---").unwrap().0, &[]).unwrap();
    let calibration = crate::quantize::Calibration::from_noise(&float, 16).unwrap();
    crate::quantize::quantize(&float, &calibration, &mut |_, _| {}).unwrap()
}

#[test]
fn norms_pools_and_products() {
    let lowered = equal(&quantised("norm"));
    let names: Vec<&str> = lowered.steps.iter().map(|s| s.kernel.name()).collect();
    assert_eq!(names, ["conv", "norm", "pool", "mul", "pool"]);
}

#[test]
fn attention_reads_its_heads_where_they_lie() {
    let lowered = equal(&quantised("attention"));
    let names: Vec<&str> = lowered.steps.iter().map(|s| s.kernel.name()).collect();
    assert_eq!(names.iter().filter(|n| **n == "transpose").count(), 0, "{names:?}");
    assert_eq!(names.len(), 7, "{names:?}");
}

#[test]
fn tokens_are_joined_and_cut_where_they_lie() {
    let lowered = equal(&quantised("tokens"));
    let names: Vec<&str> = lowered.steps.iter().map(|s| s.kernel.name()).collect();
    // The constant token, the others, two norms of heads, the sum, the first token's layer.
    assert_eq!(names.iter().filter(|n| **n == "transpose").count(), 0, "{names:?}");
    assert_eq!(names.iter().filter(|n| **n == "map").count(), 0, "nothing is copied: {names:?}");
}

#[test]
fn a_part_of_a_tensor_as_output_is_copied_out_of_it() {
    let lowered = equal(&graph(
        "  %m = qmap %x, @table : s8[1,4,6,6] q(0.5,-3)
  %y = slice %m {axis=1, start=1, end=3, step=1} : s8[1,2,6,6] q(0.5,-3)
",
    ));
    let names: Vec<&str> = lowered.steps.iter().map(|s| s.kernel.name()).collect();
    assert_eq!(names, ["map", "map"]);
}

#[test]
fn operands_that_were_made_tensors() {
    equal(&quantised("film"));
}

#[test]
fn a_depthwise_affine_and_a_transposed_convolution() {
    equal(&quantised("transposed"));
}

#[test]
fn movements_that_leave_the_bytes_in_place_cost_nothing_and_others_are_transposed() {
    let lowered = equal(&graph(
        "  %a = reshape %x {dims=[1,4,36]} : s8[1,4,36] q(0.5,-3)
  %b = transpose %a {perm=[0,2,1]} : s8[1,36,4] q(0.5,-3)
  %c = reshape %b {dims=[1,6,6,4]} : s8[1,6,6,4] q(0.5,-3)
  %d = transpose %c {perm=[0,3,1,2]} : s8[1,4,6,6] q(0.5,-3)
  %e = qmap %d, @table : s8[1,4,6,6] q(0.5,-3)
  %f = reshape %e {dims=[4,36]} : s8[4,36] q(0.5,-3)
  %g = transpose %f {perm=[1,0]} : s8[36,4] q(0.5,-3)
  %h = reshape %g {dims=[1,36,1,4]} : s8[1,36,1,4] q(0.5,-3)
  %y = qmap %h, @table : s8[1,36,1,4] q(0.5,-3)
",
    ));
    let names: Vec<&str> = lowered.steps.iter().map(|s| s.kernel.name()).collect();
    assert_eq!(names, ["map", "transpose", "map"]);
}

#[test]
fn what_cannot_be_lowered_is_named() {
    let error = |body: &str| lower(&graph(body), [0; 32], &Target::host()).unwrap_err().to_string();
    let message = error("  %y = concat %x, %x {axis=3} : s8[1,4,6,12] q(0.5,-3) from \"net/cat\"\n");
    assert!(message.starts_with("node 'net/cat' (concat): axis 3 of [1, 4, 6, 12]"), "{message}");
    let message = error("  %y = slice %x {axis=3, start=1, end=3} : s8[1,4,6,2] q(0.5,-3) from \"net/cut\"\n");
    assert!(message.starts_with("node 'net/cut' (slice): axis 3 of [1, 4, 6, 6]"), "{message}");
    let message = error("  %y = reshape %x {dims=[1,6,4,6]} : s8[1,6,4,6] q(0.5,-3) from \"net/view\"\n");
    assert!(message.contains("[1, 4, 6, 6] to [1, 6, 4, 6] moves elements"), "{message}");
    let message = error("  %y = upsample %x {factor=3} : s8[1,4,18,18] q(0.5,-3) from \"net/up\"\n");
    assert!(message.contains("upsampling is by 2"), "{message}");
}

#[test]
fn a_model_that_does_not_fit_says_by_how_much() {
    let small = Target { ram_bytes: Some(400), flash_bytes: Some(100), name: "chip".into(), ..Target::host() };
    let message = lower(&graph(RESIDUAL), [0; 32], &small).unwrap_err().to_string();
    assert!(message.contains("chip: weights need"), "{message}");
    let small = Target { flash_bytes: None, ..small };
    let message = lower(&graph(RESIDUAL), [0; 32], &small).unwrap_err().to_string();
    assert_eq!(
        message,
        "the model does not fit chip: the arena needs 432 bytes of RAM and the part has 400, 32 too few; \
         the largest are c (288), x (144)"
    );
}

fn part(memories: &[(&'static str, MemoryKind, usize)]) -> Target {
    let memory = |&(name, kind, bytes): &(&'static str, MemoryKind, usize)| Memory {
        name: name.into(),
        kind,
        bytes,
        section: Some(format!(".{name}").into()),
    };
    Target { memories: memories.iter().map(memory).collect(), name: "part".into(), ..Target::host() }
}

#[test]
fn the_arena_lies_in_the_fastest_memory_that_holds_it() {
    let (ram, flash) = (MemoryKind::Ram, MemoryKind::Flash);
    let on = |memories: &[(&'static str, MemoryKind, usize)]| lower(&graph(RESIDUAL), [0; 32], &part(memories));
    let found =
        |first: usize| on(&[("tcm", ram, first), ("sram", ram, 1000), ("rom", flash, 9000)]).unwrap().arena_memory;
    assert_eq!([found(432), found(431)], [Some("tcm".to_owned()), Some("sram".to_owned())]);
    let error = on(&[("tcm", ram, 400), ("sram", ram, 420), ("rom", flash, 9000)]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the model does not fit part: the arena needs 432 bytes of RAM and the part has tcm (400), sram (420); the largest \
         are c (288), x (144)"
    );
    let error = on(&[("sram", ram, 1000), ("rom", flash, 10), ("spi", flash, 20)]).unwrap_err().to_string();
    assert!(error.contains("bytes of flash and the part has rom (10), spi (20); the largest are"), "{error}");
    let error = on(&[("sram", ram, 1000)]).unwrap_err().to_string();
    assert!(error.contains("the part has none"), "{error}");
}

/// Networks of a program share an arena, so that the largest decides, and one set of weights.
#[test]
fn networks_of_a_program_lie_in_the_same_memories() {
    let (ram, flash) = (MemoryKind::Ram, MemoryKind::Flash);
    let small = graph("  %y = qmap %x, @table : s8[1,4,6,6] q(0.5,-3)\n");
    let both = [small, graph(RESIDUAL)];
    let on = |rom: usize| {
        let memories = [("tcm", ram, 200), ("sram", ram, 1000), ("rom", flash, rom), ("spi", flash, 9000)];
        lower_all(&both, [0; 32], &part(&memories))
    };
    let places = |lowered: &[Lowered]| -> Vec<(Option<String>, String)> {
        lowered.iter().map(|l| (l.arena_memory.clone(), l.weights_parts[0].memory.clone())).collect()
    };
    let sram = Some("sram".to_owned());
    assert_eq!(places(&on(9000).unwrap()), vec![(sram.clone(), "rom".to_owned()); 2]);
    // Each alone would fit the first flash, or the first RAM.
    assert_eq!(places(&on(300).unwrap()), vec![(sram, "spi".to_owned()); 2]);
}

/// What a pass reads least often goes outside, and every step reads the same bytes as before.
#[test]
fn weights_that_do_not_fit_lie_in_the_other_flash() {
    let (ram, flash) = (MemoryKind::Ram, MemoryKind::Flash);
    let graph = parse(include_str!("../codegen/tests/tiny.ir"), &[]).unwrap();
    let whole = lower(&graph, [0; 32], &Target::host()).unwrap();
    let all = whole.weights.len();
    let on = |first: usize| {
        let memories = [("sram", ram, 9000), ("rom", flash, first), ("spi", flash, all)];
        lower(&graph, [0; 32], &part(&memories)).unwrap()
    };
    let fits = on(all);
    assert_eq!((fits.weights_parts.len(), &fits.weights), (1, &whole.weights));
    for first in [all - 1, all * 3 / 4, all / 2, 64] {
        let split = on(first);
        let [inner, outer] = &split.weights_parts[..] else { panic!("{:?}", split.weights_parts) };
        assert_eq!((inner.offset, inner.len, inner.memory.as_str()), (0, outer.offset, "rom"));
        assert_eq!((outer.offset + outer.len, outer.memory.as_str()), (split.weights.len(), "spi"));
        assert!(inner.len <= first && outer.section.as_deref() == Some(".spi"));
        for (a, b) in whole.steps.iter().zip(&split.steps) {
            let bytes = |l: &Lowered, s: &LoweredStep| -> Vec<Vec<u8>> {
                s.kernel.constants().into_iter().map(|c| c.of(&l.weights).to_vec()).collect()
            };
            assert_eq!(bytes(&whole, a), bytes(&split, b), "{}", a.name);
            for section in b.kernel.constants() {
                let outside = section.offset >= outer.offset;
                assert!(outside || section.offset + section.len <= inner.len, "{}", b.name);
            }
        }
    }
}

#[test]
fn a_changed_graph_is_refused_or_lowered_but_never_panics() {
    let text = include_str!("../codegen/tests/tiny.ir");
    let mut lowered = 0;
    for (i, byte) in text.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()) {
        for other in [b'0', b'1', b'7', b'-'].into_iter().filter(|o| *o != byte) {
            let mut changed = text.as_bytes().to_vec();
            changed[i] = other;
            let changed = String::from_utf8(changed).unwrap();
            let Ok(graph) = parse(&changed, &[]) else { continue };
            lowered += usize::from(lower(&graph, [0; 32], &Target::host()).is_ok());
        }
    }
    assert!(lowered > 100, "{lowered}");
}

#[test]
fn reports_are_readable() {
    let lowered = lowered(RESIDUAL);
    assert_eq!(
        lowered.memory.table(),
        "arena 432 bytes; no layout of these steps needs less than 432 (0.0 % above)\n  \
         offset    bytes     steps  tensor\n     \
         288      144     in..1  x\n       \
         0      288      0..1  c\n     \
         288      144    1..end  y (in place of x)\n"
    );
    let picture = svg(&lowered.memory);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<rect ").count(), 4);
}
