//! Runs one-step flow models as static integer graphs, without heap, the same bits on hosts and microcontrollers.
#![no_std]
#![forbid(unsafe_code)]

pub use flowlet_kernels as kernels;
pub use flowlet_plan as plan;
