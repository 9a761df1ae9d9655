//! `--qat-scales`: the scales that training needs to imitate int8, in the form that `models/recipe/quantization.py` reads.

use flowlet_compiler::quantize::LayerScales;
use serde_json::{Map, Value, json};

/// `{"activations": {layer: scale}, "weights": {layer: [scale of each output channel]}}`, int8 symmetric; a layer is the
/// dotted name of a PyTorch module. An activation scale covers the range that the compiler chose for the layer's input.
pub(super) fn to_json(layers: &[LayerScales]) -> Value {
    let (mut activations, mut weights) = (Map::new(), Map::new());
    for layer in layers {
        let name = module(layer);
        let [low, high] = [-128.0, 127.0].map(|q| (q - f32::from(layer.input.zero_point)) * layer.input.scale);
        activations.insert(name.clone(), json!(high.max(-low) / 127.0));
        // Training divides by it; a channel without weights has none.
        weights.insert(name, json!(layer.weights.iter().map(|w| w.max(1e-8)).collect::<Vec<f32>>()));
    }
    json!({ "activations": activations, "weights": weights })
}

/// The module that a layer's weights belong to: from their own name where the exporter kept it, else from the node's.
fn module(layer: &LayerScales) -> String {
    let weight = layer.weight.trim_end_matches(".folded");
    if let Some(module) = weight.strip_suffix(".weight") {
        return module.to_owned();
    }
    let path = layer.node.trim_start_matches('/');
    path.rsplit_once('/').map_or(path, |(module, _)| module).replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowlet_compiler::ir::Quant;

    #[test]
    fn layers_have_the_names_of_their_modules() {
        let layer = |weight: &str, node: &str| LayerScales {
            weight: weight.to_owned(),
            node: node.to_owned(),
            input: Quant { scale: 0.1, zero_point: -100 },
            weights: vec![0.5, 0.0],
        };
        let found = to_json(&[
            layer("up.conv.weight.folded", "/up/conv/Conv"),
            layer("onnx__MatMul_12", "/blocks.0/attention/qkv/MatMul"),
        ]);
        assert!((found["activations"]["up.conv"].as_f64().unwrap() - 22.7 / 127.0).abs() < 1e-6, "{found}");
        assert_eq!(found["weights"]["blocks.0.attention.qkv"][0], json!(0.5), "{found}");
        assert!(found["weights"]["up.conv"][1].as_f64().unwrap() > 0.0, "{found}");
    }
}
