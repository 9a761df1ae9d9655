//! Runs inversion, steering and a chain of latents.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    DIGITS 4:
        digits_edit_4 as "digits/edit_4",
        digits_inpaint_8 as "digits/inpaint_8",
        digits_enlarge_8 as "digits/enlarge_8",
        digits_deblur_8 as "digits/deblur_8",
        digits_chain_2 as "digits/chain_2";
}
