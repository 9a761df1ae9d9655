//! Compiles the models of `codegen/` as a firmware's build script would.

use flowlet_build::{Error, Model};

fn main() -> Result<(), Error> {
    Model::from_text("../compiler/src/codegen/tests/tiny.ir").target("host").emit("tiny")?;
    Model::from_text("codegen/unet.ir").target("host").emit("unet")
}
