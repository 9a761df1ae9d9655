//! Imports models that are written here, node by node, and the ones that ship with the project.
// Helpers of tests fail by panicking, and what they do not expect needs no list.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod attention;
mod bad_input;
mod build;
mod conv;
mod elementwise;
mod flips;
mod matmul;
mod models;
mod movement;
mod networks;
mod norms;
mod npy;
mod quantised;
mod reduce;
mod resample;
mod settings;
