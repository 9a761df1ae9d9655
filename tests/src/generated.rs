//! Models that the build script compiled.

/// One of every kernel, in 80 bytes.
///
/// An arena that is too small does not compile:
///
/// ```compile_fail,E0080
/// let mut arena = flowlet::Arena::<79>::new();
/// let model = flowlet_tests::generated::tiny::Model::new(&mut arena);
/// ```
///
/// A larger one is shared with other models:
///
/// ```
/// let mut arena = flowlet::Arena::<96>::new();
/// let model = flowlet_tests::generated::tiny::Model::new(&mut arena);
/// ```
pub mod tiny {
    include!(concat!(env!("OUT_DIR"), "/tiny.rs"));
}

/// The shape of `models/fashion`, narrow and with random weights.
pub mod unet {
    include!(concat!(env!("OUT_DIR"), "/unet.rs"));
}

/// The same for a part whose weights lie in two memories.
pub mod unet_split {
    include!(concat!(env!("OUT_DIR"), "/unet_split.rs"));
}

/// `models/fashion-tiny`.
pub mod fashion_tiny {
    include!(concat!(env!("OUT_DIR"), "/fashion_tiny.rs"));
}

/// `models/fashion`.
pub mod fashion {
    include!(concat!(env!("OUT_DIR"), "/fashion.rs"));
}
