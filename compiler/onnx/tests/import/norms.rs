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

#[test]
fn norms_stay_one_operation() {
    let (scale, shift) = (noise(4, 1), noise(4, 2));
    let x = tensor(&[1, 4, 3], 5);
    let run = x.as_f32().unwrap();
    let model = |op: &str, opset: i64, factors: usize, attributes| {
        Model::new()
            .opset(opset)
            .input("x", &[1, 4, 3])
            .constant("scale", &[factors], &scale[..factors])
            .constant("shift", &[factors], &shift[..factors])
            .output("y")
            .node(op, &["x", "scale", "shift"], &["y"], attributes)
    };
    let groups = |factor: &dyn Fn(usize) -> usize| -> Vec<f32> {
        let n = normalised(run, 6);
        n.iter().enumerate().map(|(i, v)| v * scale[factor(i / 3)] + shift[factor(i / 3)]).collect()
    };
    let attributes = || vec![int("num_groups", 2), float("epsilon", EPS)];
    let per_group = model("GroupNormalization", 18, 2, attributes());
    assert_eq!(per_group.ops(), ["norm"]);
    per_group.expect(std::slice::from_ref(&x), &[1, 4, 3], &groups(&|c| c / 2));
    let per_channel = model("GroupNormalization", 21, 4, attributes());
    per_channel.expect(std::slice::from_ref(&x), &[1, 4, 3], &groups(&|c| c));
    let instance = model("InstanceNormalization", 17, 4, vec![float("epsilon", EPS)]);
    assert_eq!(instance.ops(), ["norm"]);
    let y: Vec<f32> = normalised(run, 3).iter().enumerate().map(|(i, v)| v * scale[i / 3] + shift[i / 3]).collect();
    instance.expect(&[x], &[1, 4, 3], &y);
}

#[test]
fn root_mean_square_normalisation() {
    let scale = noise(6, 1);
    let model = Model::new().opset(23).input("x", &[1, 4, 6]).constant("scale", &[6], &scale).output("y").node(
        "RMSNormalization",
        &["x", "scale"],
        &["y"],
        vec![float("epsilon", EPS)],
    );
    assert_eq!(model.ops(), ["norm"]);
    let x = tensor(&[1, 4, 6], 5);
    let rms = |c: &[f32]| (c.iter().map(|v| v * v).sum::<f32>() / 6.0 + EPS).sqrt();
    let y: Vec<f32> = x
        .as_f32()
        .unwrap()
        .chunks(6)
        .flat_map(|c| c.iter().zip(&scale).map(|(v, s)| v / rms(c) * s).collect::<Vec<_>>())
        .collect();
    model.expect(&[x], &[1, 4, 6], &y);
}

#[test]
fn a_layer_norm_whose_statistics_are_read_is_refused() {
    let model = Model::new()
        .input("x", &[1, 6])
        .constant("scale", &[6], &noise(6, 1))
        .output("y")
        .output("mean")
        .named("/norm", "LayerNormalization", &["x", "scale"], &["y", "mean"], vec![]);
    let error = model.import().unwrap_err().to_string();
    assert!(error.contains("/norm") && error.contains("only the first"), "{error}");
}
