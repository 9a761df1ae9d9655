//! Runs programs of several networks: an edit with held value tensors, a chain with a critic, a translation by recorded
//! noise, and a flow with a refiner of its velocity.
#![no_std]
#![no_main]

flowlet_board_programs::run! {
    DIGITS 4:
        digits_rfedit_4 as "digits/rfedit_4",
        digits_critic_2 as "digits/critic_2",
        digits_a_cycle_8 as "digits-a/cycle_8",
        digits_unet_turbo_4 as "digits-unet/turbo_4";
}
