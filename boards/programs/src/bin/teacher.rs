//! Runs samplers of a larger network, once each.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    GARMENTS 1:
        fashion_teacher_heun_4 as "fashion-teacher/heun_4",
        fashion_teacher_bellman_4 as "fashion-teacher/bellman_4";
}
