//! Runs programs of two networks: a translation by recorded noise, and a flow with a refiner of its velocity.
#![no_std]
#![no_main]

flowlet_board_programs::run!(cycle_8, turbo_4);
