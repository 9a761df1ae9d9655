//! Runs inversion, steering and a chain of latents.
#![no_std]
#![no_main]

flowlet_board_programs::run!(edit_4, inpaint_8, enlarge_8, deblur_8, chain_2);
