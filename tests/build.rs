//! Compiles the models of `codegen/` and the committed ones as a firmware's build script would.

use flowlet_build::{Error, Model};

fn main() -> Result<(), Error> {
    Model::from_text("../compiler/src/codegen/tests/tiny.ir").target("host").emit("tiny")?;
    Model::from_text("codegen/unet.ir").target("host").emit("unet")?;
    // Weights in two memories, of a part that a file describes.
    Model::from_text("codegen/unet.ir").target("codegen/two-flashes.toml").emit("unet_split")?;
    let committed = |path| Model::from_flq(path).target("host");
    committed("../models/fashion-tiny/fashion-tiny.flq").emit("fashion_tiny")?;
    committed("../models/fashion/fashion.flq").emit("fashion")
}
