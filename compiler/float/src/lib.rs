//! Runs static f32 graphs fast on hosts: for networks that must not be int8.
//!
//! A [`Network`] is made once from a graph that has gone through the passes: weights are packed for the processor,
//! elementwise operations end the step that computes their operand, what only moves elements costs nothing where the
//! order in memory allows, and memory is planned. A run allocates nothing.
//!
//! Tensors are stored with axis 1 (channels) last, which callers do not see: arrays go in and come out in ONNX order.
//! Sums have another order than in the interpreter and functions are polynomials, so that results differ by at most
//! [`ERROR_BOUND`] of the range of an output on the networks that are tested; for anything that must be the same bytes on
//! every machine, use [`flowlet_compiler::interp`]. A result does not depend on the number of threads.
#![forbid(unsafe_code)]

mod build;
mod error;
mod finish;
mod functions;
mod kernels;
mod layout;
mod memory;
mod network;
mod weights;

pub use error::FloatError;
pub use flowlet_kernels::float::Instructions;
pub use memory::Memory;
pub use network::{Network, StepInfo};
pub use weights::Weights;

/// The largest difference from the interpreter on the tested networks, as a share of the range of an output.
pub const ERROR_BOUND: f32 = 1e-5;
