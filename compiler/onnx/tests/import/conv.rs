//! Convolutions.

use crate::build::{Model, int, ints, noise, tensor, text};
use flowlet_compiler::ir::Op;
use tract_onnx::pb::AttributeProto;

/// Geometry of the textbook convolution.
#[derive(Clone, Copy)]
struct Shape {
    x: [usize; 3],
    w: [usize; 3],
    groups: usize,
    stride: [usize; 2],
    pad: [usize; 4],
    dilation: [usize; 2],
}

const PLAIN: Shape = Shape { x: [3, 6, 5], w: [4, 3, 3], groups: 1, stride: [1, 1], pad: [0; 4], dilation: [1, 1] };

fn textbook(s: &Shape, x: &[f32], w: &[f32], bias: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let ([c, h, wd], [o, kh, kw]) = (s.x, s.w);
    let out =
        |n: usize, k: usize, a: usize| (n + s.pad[a] + s.pad[a + 2] - (k - 1) * s.dilation[a] - 1) / s.stride[a] + 1;
    let (oh, ow) = (out(h, kh, 0), out(wd, kw, 1));
    let inner = c / s.groups;
    let mut y = Vec::new();
    for oc in 0..o {
        for oy in 0..oh {
            for ox in 0..ow {
                let mut sum = bias.get(oc).copied().unwrap_or(0.0);
                for ic in 0..inner {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let iy = (oy * s.stride[0] + ky * s.dilation[0]) as isize - s.pad[0] as isize;
                            let ix = (ox * s.stride[1] + kx * s.dilation[1]) as isize - s.pad[1] as isize;
                            if (0..h as isize).contains(&iy) && (0..wd as isize).contains(&ix) {
                                let from = oc / (o / s.groups) * inner + ic;
                                let at = (from * h + iy as usize) * wd + ix as usize;
                                sum += x[at] * w[((oc * inner + ic) * kh + ky) * kw + kx];
                            }
                        }
                    }
                }
                y.push(sum);
            }
        }
    }
    (vec![1, o, oh, ow], y)
}

#[track_caller]
fn check(s: Shape, with_bias: bool, attributes: Vec<AttributeProto>) {
    let ([c, h, wd], [o, kh, kw]) = (s.x, s.w);
    let w = noise(o * c / s.groups * kh * kw, 1);
    let b = if with_bias { noise(o, 2) } else { Vec::new() };
    let mut model = Model::new().input("x", &[1, c, h, wd]).constant("w", &[o, c / s.groups, kh, kw], &w).output("y");
    if with_bias {
        model = model.constant("b", &[o], &b);
    }
    let inputs: &[&str] = if with_bias { &["x", "w", "b"] } else { &["x", "w"] };
    let model = model.node("Conv", inputs, &["y"], attributes);
    assert_eq!(model.ops(), ["conv"]);
    let x = tensor(&[1, c, h, wd], 3);
    let (dims, y) = textbook(&s, x.as_f32().unwrap(), &w, &b);
    model.expect(&[x], &dims, &y);
}

#[test]
fn plain_and_with_bias() {
    check(PLAIN, false, vec![]);
    check(PLAIN, true, vec![]);
}

#[test]
fn a_bias_of_one_channel() {
    check(Shape { w: [1, 3, 3], ..PLAIN }, true, vec![]);
}

#[test]
fn strides_and_unequal_pads() {
    let s = Shape { stride: [2, 1], pad: [1, 0, 2, 1], ..PLAIN };
    check(s, true, vec![ints("strides", &[2, 1]), ints("pads", &[1, 0, 2, 1]), ints("kernel_shape", &[3, 3])]);
}

#[test]
fn dilation() {
    check(Shape { dilation: [2, 1], ..PLAIN }, false, vec![ints("dilations", &[2, 1])]);
}

#[test]
fn groups_and_depthwise() {
    let s = Shape { x: [4, 5, 5], w: [6, 3, 3], groups: 2, ..PLAIN };
    check(s, true, vec![int("group", 2)]);
    check(Shape { x: [4, 5, 5], w: [4, 3, 3], groups: 4, ..PLAIN }, true, vec![int("group", 4)]);
}

#[test]
fn pads_that_keep_the_size() {
    check(Shape { pad: [1, 1, 1, 1], ..PLAIN }, false, vec![text("auto_pad", "SAME_UPPER")]);
    // 6 rows in steps of 2 need 1 row of padding, which goes below or above.
    let s = Shape { stride: [2, 1], pad: [0, 1, 1, 1], ..PLAIN };
    check(s, false, vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 1])]);
    let s = Shape { stride: [2, 1], pad: [1, 1, 0, 1], ..PLAIN };
    check(s, false, vec![text("auto_pad", "SAME_LOWER"), ints("strides", &[2, 1])]);
}

#[test]
fn one_spatial_axis() {
    let (w, b) = (noise(4 * 3 * 5, 1), noise(4, 2));
    let model = Model::new().input("x", &[1, 3, 9]).constant("w", &[4, 3, 5], &w).constant("b", &[4], &b).output("y");
    let model = model.node("Conv", &["x", "w", "b"], &["y"], vec![ints("pads", &[2, 1]), ints("strides", &[2])]);
    assert_eq!(model.ops(), ["reshape", "conv", "reshape"]);
    let x = tensor(&[1, 3, 9], 3);
    let s = Shape { x: [3, 1, 9], w: [4, 1, 5], groups: 1, stride: [1, 2], pad: [0, 2, 0, 1], dilation: [1, 1] };
    let (_, y) = textbook(&s, x.as_f32().unwrap(), &w, &b);
    model.expect(&[x], &[1, 4, 4], &y);
}

#[test]
fn zero_padding_joins_the_convolution() {
    let w = noise(4 * 3 * 9, 1);
    let model = Model::new()
        .input("x", &[1, 3, 6, 5])
        .constant("w", &[4, 3, 3, 3], &w)
        .integers("p", &[8], &[0, 0, 1, 0, 0, 0, 2, 1])
        .output("y")
        .node("Pad", &["x", "p"], &["padded"], vec![])
        .node("Conv", &["padded", "w"], &["y"], vec![ints("pads", &[0, 1, 0, 0])]);
    assert_eq!(model.ops(), ["conv"]);
    assert!(matches!(model.graph_or_panic().nodes[0].op, Op::Conv(g) if g.pad == [1, 1, 2, 1]));
    let x = tensor(&[1, 3, 6, 5], 3);
    let (dims, y) = textbook(&Shape { pad: [1, 1, 2, 1], ..PLAIN }, x.as_f32().unwrap(), &w, &[]);
    model.expect(&[x], &dims, &y);
}

#[test]
fn weights_computed_from_constants_are_left_to_the_compiler() {
    let w = noise(4 * 3 * 9, 1);
    let model = Model::new()
        .input("x", &[1, 3, 6, 5])
        .constant("w", &[4, 3, 3, 3], &w)
        .output("y")
        .node("Tanh", &["w"], &["v"], vec![])
        .node("Conv", &["x", "v"], &["y"], vec![]);
    assert_eq!(model.ops(), ["tanh", "conv"]);
    let x = tensor(&[1, 3, 6, 5], 3);
    let w: Vec<f32> = w.iter().map(|v| v.tanh()).collect();
    let (dims, y) = textbook(&PLAIN, x.as_f32().unwrap(), &w, &[]);
    model.expect(&[x], &dims, &y);
}

/// Scatters every input over the kernel; the output has `out` places in each direction.
fn transposed(x: &[f32], w: &[f32], dims: [usize; 5], stride: usize, pad: usize) -> Vec<f32> {
    let [i, o, size, k, out] = dims;
    let mut y = vec![0.0f32; o * out * out];
    for (n, x) in x[..i * size * size].iter().enumerate() {
        let (ch, iy, ix) = (n / (size * size), n / size % size, n % size);
        for tap in 0..o * k * k {
            let (oc, ky, kx) = (tap / (k * k), tap / k % k, tap % k);
            let (oy, ox) = ((iy * stride + ky).wrapping_sub(pad), (ix * stride + kx).wrapping_sub(pad));
            if oy < out && ox < out {
                y[(oc * out + oy) * out + ox] += x * w[ch * o * k * k + tap];
            }
        }
    }
    y
}

#[test]
fn a_transposed_convolution_with_stride_padding_and_an_extra_row() {
    let (x, w) = (tensor(&[1, 3, 4, 4], 1), noise(3 * 2 * 9, 2));
    let model = Model::new().input("x", &[1, 3, 4, 4]).constant("w", &[3, 2, 3, 3], &w).output("y").node(
        "ConvTranspose",
        &["x", "w"],
        &["y"],
        vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1]), ints("output_padding", &[1, 1])],
    );
    assert_eq!(model.ops(), ["conv_transpose"]);
    let y = transposed(x.as_f32().unwrap(), &w, [3, 2, 4, 3, 8], 2, 1);
    model.expect(&[x], &[1, 2, 8, 8], &y);
}

#[test]
fn a_transposed_convolution_of_one_axis_with_groups_and_bias() {
    let (x, w, b) = (tensor(&[1, 4, 3], 1), noise(4 * 3 * 4, 2), noise(6, 3));
    let model =
        Model::new().input("x", &[1, 4, 3]).constant("w", &[4, 3, 4], &w).constant("b", &[6], &b).output("y").node(
            "ConvTranspose",
            &["x", "w", "b"],
            &["y"],
            vec![ints("strides", &[2]), ints("pads", &[1, 1]), int("group", 2)],
        );
    let mut y: Vec<f32> = (0..36).map(|i| b[i / 6]).collect();
    for (i, at, o, k) in (0..4 * 3 * 3 * 4usize).map(|n| (n / 36, n / 12 % 3, n / 4 % 3, n % 4)) {
        let out = (at * 2 + k).wrapping_sub(1usize);
        if out < 6 {
            y[(i / 2 * 3 + o) * 6 + out] += x.as_f32().unwrap()[i * 3 + at] * w[(i * 3 + o) * 4 + k];
        }
    }
    model.expect(&[x], &[1, 6, 6], &y);
}
