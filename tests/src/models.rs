//! The committed models, and how each is read and quantised.

use std::path::{Path, PathBuf};

/// Those that the demo and the firmware run.
pub const NAMES: [&str; 2] = ["fashion-tiny", "fashion"];

/// The others with a flow convention and a committed `.flq`.
pub const OTHERS: [&str; 10] = [
    "fashion-matched",
    "fashion-teacher",
    "fashion-gn",
    "fashion-vit",
    "fashion-vit-ln",
    "fashion-vit-bn",
    "digits",
    "digits-unet",
    "digits-a",
    "digits-b",
];

/// The model whose ONNX file holds the sampler and the decoder, so that no convention is left to state.
pub const LATENT: &str = "fashion-latent";

/// A file of a model's folder that has its name.
pub fn file(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name).join(name).with_extension(extension)
}
