//! Runs a larger network with a refiner of its velocity.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    GARMENTS 1:
        fashion_teacher_turbo_4 as "fashion-teacher/turbo_4";
}
