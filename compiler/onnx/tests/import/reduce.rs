//! Sums, means and average pooling.

use crate::build::{Model, int, ints, tensor};
use tract_onnx::pb::AttributeProto;

const DIMS: [usize; 4] = [1, 3, 4, 6];

fn one(op: &str, attributes: Vec<AttributeProto>) -> Model {
    Model::new().input("x", &DIMS).output("y").node(op, &["x"], &["y"], attributes)
}

/// Mean over windows of every channel; `counted` is the number to divide by where the window leaves the image.
fn pooled(x: &[f32], k: [usize; 2], stride: [usize; 2], pad: usize) -> (Vec<usize>, Vec<f32>) {
    let [_, c, h, w] = DIMS;
    let (oh, ow) = ((h + 2 * pad - k[0]) / stride[0] + 1, (w + 2 * pad - k[1]) / stride[1] + 1);
    let mut y = Vec::new();
    for i in 0..c * oh * ow {
        let (ch, oy, ox) = (i / (oh * ow), i / ow % oh, i % ow);
        let mut sum = 0.0;
        for dy in 0..k[0] {
            for dx in 0..k[1] {
                let (iy, ix) = ((oy * stride[0] + dy).wrapping_sub(pad), (ox * stride[1] + dx).wrapping_sub(pad));
                if iy < h && ix < w {
                    sum += x[(ch * h + iy) * w + ix];
                }
            }
        }
        y.push(sum / (k[0] * k[1]) as f32);
    }
    (vec![1, c, oh, ow], y)
}

#[test]
fn means_with_and_without_the_axes() {
    let x = tensor(&DIMS, 1);
    let (_, y) = pooled(x.as_f32().unwrap(), [4, 6], [1, 1], 0);
    let model = one("ReduceMean", vec![ints("axes", &[2, 3])]);
    assert_eq!(model.ops(), ["reduce_mean"]);
    model.expect(std::slice::from_ref(&x), &[1, 3, 1, 1], &y);
    let model = one("ReduceMean", vec![ints("axes", &[-1, -2]), int("keepdims", 0)]);
    assert_eq!(model.ops(), ["reduce_mean", "reshape"]);
    model.expect(std::slice::from_ref(&x), &[1, 3], &y);
    let model = one("GlobalAveragePool", vec![]);
    assert_eq!(model.ops(), ["reduce_mean"]);
    model.expect(&[x], &[1, 3, 1, 1], &y);
}

#[test]
fn sums() {
    let x = tensor(&DIMS, 1);
    let model = Model::new().input("x", &DIMS).integers("axes", &[1], &[3]).output("y");
    let model = model.node("ReduceSum", &["x", "axes"], &["y"], vec![]);
    assert_eq!(model.ops(), ["reduce_sum"]);
    let y: Vec<f32> = x.as_f32().unwrap().chunks(6).map(|c| c.iter().sum()).collect();
    model.expect(std::slice::from_ref(&x), &[1, 3, 4, 1], &y);
    let model = one("ReduceSumSquare", vec![ints("axes", &[3])]);
    let y: Vec<f32> = x.as_f32().unwrap().chunks(6).map(|c| c.iter().map(|v| v * v).sum()).collect();
    model.expect(&[x], &[1, 3, 4, 1], &y);
}

#[test]
fn average_pooling_that_counts_its_padding() {
    let x = tensor(&DIMS, 1);
    let check = |k: [usize; 2], stride: [usize; 2], pad: usize| {
        let list = |v: [usize; 2]| [v[0] as i64, v[1] as i64];
        let model = one(
            "AveragePool",
            vec![
                ints("kernel_shape", &list(k)),
                ints("strides", &list(stride)),
                ints("pads", &[pad as i64; 4]),
                int("count_include_pad", 1),
            ],
        );
        assert_eq!(model.ops(), ["average_pool"]);
        let (dims, y) = pooled(x.as_f32().unwrap(), k, stride, pad);
        model.expect(std::slice::from_ref(&x), &dims, &y);
    };
    check([4, 6], [1, 1], 0);
    check([2, 3], [2, 3], 0);
    check([3, 3], [1, 2], 0);
    check([3, 3], [1, 1], 1);
}

#[test]
fn average_pooling_without_its_padding_and_max_pooling() {
    let x = tensor(&DIMS, 1);
    let window = || vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])];
    let values = |i: usize| {
        let (ch, oy, ox) = (i / 6, i / 3 % 2, i % 3);
        let rows = (2 * oy).saturating_sub(1)..(2 * oy + 2).min(4);
        rows.flat_map(move |y| ((2 * ox).saturating_sub(1)..(2 * ox + 2).min(6)).map(move |x| (ch * 4 + y) * 6 + x))
            .map(|i| x.as_f32().unwrap()[i])
            .collect::<Vec<f32>>()
    };
    let means: Vec<f32> = (0..18).map(|i| values(i).iter().sum::<f32>() / values(i).len() as f32).collect();
    one("AveragePool", window()).expect(std::slice::from_ref(&x), &[1, 3, 2, 3], &means);
    let greatest: Vec<f32> = (0..18).map(|i| values(i).into_iter().fold(f32::MIN, f32::max)).collect();
    one("MaxPool", window()).expect(std::slice::from_ref(&x), &[1, 3, 2, 3], &greatest);
}

#[test]
fn pooling_of_one_axis() {
    let model = Model::new().input("x", &[1, 2, 6]).output("y").node(
        "MaxPool",
        &["x"],
        &["y"],
        vec![ints("kernel_shape", &[2]), ints("strides", &[2])],
    );
    let x = tensor(&[1, 2, 6], 3);
    let y: Vec<f32> = x.as_f32().unwrap().chunks(2).map(|c| c[0].max(c[1])).collect();
    model.expect(&[x], &[1, 2, 3], &y);
}

#[test]
fn extremes() {
    let x = tensor(&DIMS, 1);
    for (op, f) in [("ReduceMax", f32::max as fn(f32, f32) -> f32), ("ReduceMin", f32::min)] {
        let y: Vec<f32> = x.as_f32().unwrap().chunks(6).map(|c| c.iter().copied().reduce(f).unwrap()).collect();
        one(op, vec![ints("axes", &[3])]).expect(std::slice::from_ref(&x), &[1, 3, 4, 1], &y);
    }
}
