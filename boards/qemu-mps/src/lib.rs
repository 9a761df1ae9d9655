//! What the programs of these boards share: draw pictures, count instructions, report.
#![no_std]
#![forbid(unsafe_code)]

/// The program that draws `seeds` pictures of each class with the generated model in module `model`.
#[macro_export]
macro_rules! draw {
    ($name:literal, $seeds:literal) => {
        use flowlet_board_support::{Line, count, entry, exit, stack};
        use model::{ARENA_BYTES, Label, Model};

        #[entry]
        fn main() -> ! {
            static mut ARENA: flowlet::Arena<ARENA_BYTES> = flowlet::Arena::new();
            let mut model = Model::new(ARENA);
            let mut deepest = 0;
            for seed in 0..$seeds {
                for label in (0..Label::COUNT).filter_map(Label::new) {
                    let ((), used) = stack::measure(|| {
                        count::region(|| {
                            model.fill_noise(seed);
                            model.generate(label);
                        })
                    });
                    deepest = deepest.max(used);
                    let image = model.image();
                    Line::new("image")
                        .text("model", $name)
                        .number("seed", seed as u32)
                        .number("label", u32::from(label.number()))
                        .number("bytes", image.len() as u32)
                        .hex("hex", image)
                        .end();
                }
            }
            Line::new("stack").text("model", $name).number("used", deepest).end();
            Line::new("done").text("model", $name).number("images", $seeds * u32::from(Label::COUNT)).end();
            exit(0)
        }
    };
}
