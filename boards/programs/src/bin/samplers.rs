//! Runs the samplers: Euler, Heun, midpoint, re-anchoring, stochastic, and one that carries its last sample.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    DIGITS 4:
        digits_euler_4 as "digits/euler_4",
        digits_guided_4 as "digits/guided_4",
        digits_heun_4 as "digits/heun_4",
        digits_midpoint_4 as "digits/midpoint_4",
        digits_reanchor_4 as "digits/reanchor_4",
        digits_stochastic_4 as "digits/stochastic_4",
        digits_stream_4 as "digits/stream_4";
}
