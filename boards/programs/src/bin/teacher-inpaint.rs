//! Runs inpainting with a larger network, and a sampler of it.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    GARMENTS 1:
        fashion_teacher_euler_4 as "fashion-teacher/euler_4",
        fashion_teacher_inpaint_8 as "fashion-teacher/inpaint_8";
}
