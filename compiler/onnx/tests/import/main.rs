//! Imports models that are written here, node by node, and the ones that ship with the project.

mod bad_input;
mod build;
mod conv;
mod elementwise;
mod flips;
mod matmul;
mod models;
mod movement;
mod norms;
mod npy;
mod reduce;
mod resample;
mod settings;
