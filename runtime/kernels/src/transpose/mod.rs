//! Pixels and channels exchanged.

pub mod reference;
pub mod scalar;

use crate::plan::Transpose;

entry_points! {
    /// Runs the step.
    Transpose, [], "the transposition does not fit the arena"
}
