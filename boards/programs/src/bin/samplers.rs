//! Runs the samplers: Euler, Heun, midpoint, re-anchoring, stochastic, and one that carries its last sample.
#![no_std]
#![no_main]

flowlet_board_programs::run!(euler_4, heun_4, midpoint_4, reanchor_4, stochastic_4, stream_4);
