//! Normalisations, which arrive as arithmetic.

use crate::build::{Model, float, int, noise, tensor};

const EPS: f32 = 1e-5;

#[test]
fn batch_normalisation_is_one_affine_map() {
    let (scale, shift, mean) = (noise(3, 1), noise(3, 2), noise(3, 3));
    let variance: Vec<f32> = noise(3, 4).iter().map(|v| v.abs() + 0.1).collect();
    let model = Model::new()
        .input("x", &[1, 3, 2, 4])
        .constant("scale", &[3], &scale)
        .constant("shift", &[3], &shift)
        .constant("mean", &[3], &mean)
        .constant("variance", &[3], &variance)
        .output("y")
        .node("BatchNormalization", &["x", "scale", "shift", "mean", "variance"], &["y"], vec![float("epsilon", EPS)]);
    assert_eq!(model.ops(), ["mul", "add"]);
    let x = tensor(&[1, 3, 2, 4], 5);
    let channel = |i: usize| i / 8;
    let y: Vec<f32> = (x.as_f32().unwrap().iter().enumerate())
        .map(|(i, v)| (i, channel(i), v))
        .map(|(_, c, v)| (v - mean[c]) / (variance[c] + EPS).sqrt() * scale[c] + shift[c])
        .collect();
    model.expect(&[x], &[1, 3, 2, 4], &y);
}

/// Normalises runs of `n` elements.
fn normalised(x: &[f32], n: usize) -> Vec<f32> {
    let run = |c: &[f32]| {
        let mean = c.iter().sum::<f32>() / n as f32;
        let variance = c.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n as f32;
        c.iter().map(|v| (v - mean) / (variance + EPS).sqrt()).collect::<Vec<f32>>()
    };
    x.chunks(n).flat_map(run).collect()
}

#[test]
fn layer_normalisation() {
    let (scale, shift) = (noise(6, 1), noise(6, 2));
    let model = Model::new()
        .input("x", &[1, 4, 6])
        .constant("scale", &[6], &scale)
        .constant("shift", &[6], &shift)
        .output("y")
        .node("LayerNormalization", &["x", "scale", "shift"], &["y"], vec![int("axis", -1), float("epsilon", EPS)]);
    let x = tensor(&[1, 4, 6], 5);
    let y: Vec<f32> =
        normalised(x.as_f32().unwrap(), 6).iter().enumerate().map(|(i, v)| v * scale[i % 6] + shift[i % 6]).collect();
    model.expect(&[x], &[1, 4, 6], &y);
}

#[test]
fn group_normalisation_as_pytorch_writes_it() {
    let (scale, shift) = (noise(4, 1), noise(4, 2));
    let model = Model::new()
        .input("x", &[1, 4, 2, 3])
        .integers("groups", &[3], &[0, 2, -1])
        .integers("image", &[4], &[1, 4, 2, 3])
        .constant("ones", &[2], &[1.0; 2])
        .constant("zeros", &[2], &[0.0; 2])
        .constant("scale", &[4, 1, 1], &scale)
        .constant("shift", &[4, 1, 1], &shift)
        .output("y")
        .node("Reshape", &["x", "groups"], &["a"], vec![])
        .node("InstanceNormalization", &["a", "ones", "zeros"], &["b"], vec![float("epsilon", EPS)])
        .node("Reshape", &["b", "image"], &["c"], vec![])
        .node("Mul", &["c", "scale"], &["d"], vec![])
        .node("Add", &["d", "shift"], &["y"], vec![]);
    let x = tensor(&[1, 4, 2, 3], 5);
    let y: Vec<f32> =
        normalised(x.as_f32().unwrap(), 12).iter().enumerate().map(|(i, v)| v * scale[i / 6] + shift[i / 6]).collect();
    model.expect(&[x], &[1, 4, 2, 3], &y);
}
