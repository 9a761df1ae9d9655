//! Pixel shuffle and unshuffle: moves pixels between space and channels, with ONNX's channel orders.

pub mod reference;
pub mod scalar;

use crate::plan::Shuffle;

entry_points! {
    /// Runs the step. An output that overlaps the input gives unspecified bytes, which [`crate::plan::Plan::check`]
    /// excludes.
    Shuffle, [], "the shuffle does not fit the arena"
}
