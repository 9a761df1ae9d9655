//! The contract between the flowlet compiler and its runtime.
//!
//! A [`Plan`] is a static graph: borrowed, const-constructible data that says where every tensor lives in one arena
//! and which kernel runs when. The compiler writes it, [`Plan::check`] proves it (bounds, alignment, liveness), and
//! only a [`CheckedPlan`] can be executed; running one cannot fail.
//!
//! Layout is NHWC with batch 1 everywhere. Constant data (weights, multipliers, biases, tables) are little-endian
//! bytes, so that one blob can be placed in any linker section.
#![deny(clippy::wildcard_enum_match_arm)]
#![no_std]
#![forbid(unsafe_code)]

mod check;
mod isa;
mod part;
mod plan;
pub mod program;
mod slot;
mod step;

pub use check::{CheckedPlan, PlanError};
pub use isa::Isa;
pub use part::{MAX_PARTS, is_worth_waking};
pub use plan::{Exactness, Graph, Index, PLAN_VERSION, Plan, Port};
pub use slot::{DType, Quant, Slot};
pub use step::{
    ARM_DSP_PIXELS, ARM_MVE_PIXELS, Add, AddParams, Conv, ConvTranspose, Epilogue, HOST_PLACES, HOST_PRODUCTS, Map,
    MatMul, Matrices, Mul, Norm, NormKind, Packing, Panels, Pool, PoolKind, Residual, RowKey, Run, Shuffle,
    ShuffleKind, Softmax, Split, Step, Table, Transpose, matmul_scratch_bytes, scratch_bytes,
};
