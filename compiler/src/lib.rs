//! Compiles a trained one-step flow model to a static graph.
//!
//! The path of a model: an importer builds an f32 [`ir::Graph`]; [`compile::optimise`] runs the float passes (time
//! becomes a constant, a label becomes tables, fixed norms become weights, the sampler joins the graph);
//! [`compile::quantize`] calibrates and writes an int8 graph, which [`flq`] stores; [`lower::lower`] places and packs it
//! for a [`target::Target`], and [`codegen`] prints straight-line Rust. The same lowered plan runs in the executor.
//!
//! This crate knows no ONNX; `flowlet-onnx` is the importer.
#![forbid(unsafe_code)]

pub mod codegen;
pub mod compile;
pub mod coverage;
pub mod flow;
pub mod flq;
pub mod hoist;
pub mod interp;
pub mod ir;
pub mod lower;
pub mod pack;
pub mod passes;
pub mod program;
pub mod quantize;
pub mod target;
