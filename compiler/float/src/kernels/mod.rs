//! Kernels over tensors whose channels are last.
//!
//! Each computes a range of rows of its result, and knows nothing of threads. Everything that takes a `Lanes` is
//! `#[inline(always)]`, as [`flowlet_kernels::float::Work`] demands.

pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod softmax;
pub(crate) mod tile;
pub(crate) mod windows;
