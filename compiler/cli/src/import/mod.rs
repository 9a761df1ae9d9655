//! The importer, if this program was built with it.

#[cfg(feature = "onnx")]
mod with_onnx;
#[cfg(not(feature = "onnx"))]
mod without_onnx;

#[cfg(feature = "onnx")]
pub use with_onnx::{import, operators};
#[cfg(not(feature = "onnx"))]
pub use without_onnx::{import, operators};
