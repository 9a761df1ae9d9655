//! Compiles a flow model from `build.rs`.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), flowlet_build::Error> {
//!     flowlet_build::Model::from_flq("models/fashion-tiny.flq").target("qemu-mps2-an386").emit("fashion_tiny")
//! }
//! ```
//!
//! ```ignore
//! // src/main.rs
//! mod model {
//!     include!(concat!(env!("OUT_DIR"), "/fashion_tiny.rs"));
//! }
//! static ARENA: StaticCell<flowlet::Arena<{ model::ARENA_BYTES }>> = StaticCell::new();
//! ```
//!
//! Nothing is calibrated here: a `.flq` holds every decision that changes a bit, and lowering it takes less than a
//! second. The same functions write code that is committed ([`Model::write_to`]) and hold it current
//! ([`Model::check_against`]).
#![forbid(unsafe_code)]

mod error;
mod files;

pub use error::Error;
pub use flowlet_compiler::target::{TARGETS, Target};

use flowlet_compiler::ir::{Graph, parse};
use flowlet_compiler::lower::{Lowered, lower};
use flowlet_compiler::program::{self, LoweredProgram};
use flowlet_compiler::{codegen, flq};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A model and what it is built for.
#[derive(Clone, Debug)]
pub struct Model {
    path: PathBuf,
    text: bool,
    target: Option<String>,
    weights_section: Option<Option<String>>,
    flash_bytes: Option<usize>,
    ram_bytes: Option<usize>,
}

impl Model {
    /// A model in a `.flq` file; relative paths start at the crate, as in every build script.
    pub fn from_flq(path: impl Into<PathBuf>) -> Model {
        Model {
            path: path.into(),
            text: false,
            target: None,
            weights_section: None,
            flash_bytes: None,
            ram_bytes: None,
        }
    }

    /// A quantised model in the compiler's text form, with all constants in the text: for tests.
    pub fn from_text(path: impl Into<PathBuf>) -> Model {
        Model { text: true, ..Model::from_flq(path) }
    }

    /// The target, by name; [`TARGETS`] lists them. A name that ends in `.toml` is a file that describes one
    /// ([`Target::parse`]). It is never guessed.
    pub fn target(mut self, name: &str) -> Model {
        self.target = Some(name.to_owned());
        self
    }

    /// Places the weights in this linker section, or with `None` where the compiler puts constants, which needs no
    /// attribute that `#![forbid(unsafe_code)]` refuses.
    pub fn weights_section(mut self, section: Option<&str>) -> Model {
        self.weights_section = Some(section.map(str::to_owned));
        self
    }

    /// Refuses a model whose weights exceed this many bytes, instead of the target's flash.
    pub fn flash_bytes(mut self, limit: usize) -> Model {
        self.flash_bytes = Some(limit);
        self
    }

    /// Refuses a model whose arena exceeds this many bytes, instead of the target's RAM.
    pub fn ram_bytes(mut self, limit: usize) -> Model {
        self.ram_bytes = Some(limit);
        self
    }

    /// Reads and lowers the model.
    ///
    /// # Errors
    /// A file that cannot be read or is no model, an unknown target, or a model that does not fit it.
    pub fn lower(&self) -> Result<Lowered, Error> {
        let target = self.resolve_target()?;
        let bytes = std::fs::read(&self.path).map_err(|e| Error::io("read", &self.path, e))?;
        let (graph, hash) = self.graph(&bytes)?;
        lower(&graph, hash, &target).map_err(|error| Error::Lower { path: self.path.clone(), error })
    }

    fn graph(&self, bytes: &[u8]) -> Result<(Graph, [u8; 32]), Error> {
        if self.text {
            let text = String::from_utf8_lossy(bytes);
            let invalid = |message: String| Error::Text { path: self.path.clone(), message };
            let graph = parse(&text, &[]).map_err(|e| invalid(e.to_string()))?;
            let hash = flq::hash(&flq::write(&graph));
            return Ok((graph, hash));
        }
        let graph = flq::read(bytes).map_err(|error| Error::Flq { path: self.path.clone(), error })?;
        Ok((graph, flq::hash(bytes)))
    }

    fn resolve_target(&self) -> Result<Target, Error> {
        let Some(name) = &self.target else { return Err(Error::NoTarget) };
        let mut target = Target::named(name).map_err(Error::Target)?;
        if let Some(section) = &self.weights_section {
            target.weights_section = section.clone().map(Cow::Owned);
        }
        target.flash_bytes = self.flash_bytes.or(target.flash_bytes);
        target.ram_bytes = self.ram_bytes.or(target.ram_bytes);
        Ok(target)
    }

    /// In a build script: writes `OUT_DIR/<name>.rs` and `OUT_DIR/<name>.bin`, and tells cargo to run again when the
    /// model changes.
    ///
    /// # Errors
    /// As [`Model::lower`], or outside a build script. `main` can return the error: it prints as a sentence.
    pub fn emit(&self, name: &str) -> Result<(), Error> {
        println!("cargo::rerun-if-changed={}", self.path.display());
        if let Some(file) = self.target.as_ref().filter(|t| t.ends_with(".toml")) {
            println!("cargo::rerun-if-changed={file}");
        }
        let out = std::env::var_os("OUT_DIR").ok_or(Error::NoOutDir)?;
        let generated = self.generate(&format!("{name}.bin"))?;
        files::write(Path::new(&out), &format!("{name}.rs"), &generated)?;
        Ok(())
    }

    /// The source and the weights, which the source includes from a file of this name beside it.
    ///
    /// # Errors
    /// As [`Model::lower`].
    pub fn generate(&self, weights_file: &str) -> Result<codegen::Generated, Error> {
        let options = codegen::Options { weights_file: weights_file.to_owned() };
        Ok(codegen::generate(&self.lower()?, &options))
    }

    /// Writes a module that can be committed: `mod.rs` and `weights.bin` in a folder. Files that are current stay
    /// untouched. Returns their paths.
    ///
    /// # Errors
    /// As [`Model::lower`], or when a file cannot be written.
    pub fn write_to(&self, folder: impl AsRef<Path>) -> Result<[PathBuf; 2], Error> {
        let generated = self.generate(files::WEIGHTS)?;
        files::write(folder.as_ref(), files::SOURCE, &generated)
    }

    /// Whether the module in a folder is what [`Model::write_to`] would write.
    ///
    /// # Errors
    /// [`Error::Stale`] with the files that differ, or as [`Model::lower`].
    pub fn check_against(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let generated = self.generate(files::WEIGHTS)?;
        let files = files::stale(folder.as_ref(), &generated)?;
        if files.is_empty() {
            return Ok(());
        }
        let (model, target) = (self.path.clone(), self.target.clone().unwrap_or_default());
        Err(Error::Stale { files, model, target, folder: folder.as_ref().to_owned() })
    }
}

/// A program file and what it is built for.
///
/// ```no_run
/// fn main() -> Result<(), flowlet_build::Error> {
///     flowlet_build::Program::from_flp("digits-euler-4.flp").target("qemu-mps2-an386").emit("digits")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    target: Option<String>,
}

impl Program {
    /// A program in a `.flp` file; relative paths start at the crate, as in every build script.
    pub fn from_flp(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), target: None }
    }

    /// The target, by name; [`TARGETS`] lists them. A name that ends in `.toml` is a file that describes one
    /// ([`Target::parse`]). It is never guessed.
    pub fn target(mut self, name: &str) -> Program {
        self.target = Some(name.to_owned());
        self
    }

    /// Reads and lowers the program and its networks.
    ///
    /// # Errors
    /// A file that cannot be read or is no program, an unknown target, or a program that does not fit it.
    pub fn lower(&self) -> Result<LoweredProgram, Error> {
        let Some(name) = &self.target else { return Err(Error::NoTarget) };
        let target = Target::named(name).map_err(Error::Target)?;
        let bytes = std::fs::read(&self.path).map_err(|e| Error::io("read", &self.path, e))?;
        let invalid = |message: String| Error::Program { path: self.path.clone(), message };
        let (program, graphs) = program::file::read(&bytes).map_err(|e| invalid(e.to_string()))?;
        program::lower(&program, flq::hash(&bytes), &graphs, &target).map_err(|e| invalid(e.to_string()))
    }

    /// In a build script: writes `OUT_DIR/<name>.rs` and `OUT_DIR/<name>.bin`, and tells cargo to run again when the
    /// program changes.
    ///
    /// # Errors
    /// As [`Program::lower`], or outside a build script.
    pub fn emit(&self, name: &str) -> Result<(), Error> {
        println!("cargo::rerun-if-changed={}", self.path.display());
        if let Some(file) = self.target.as_ref().filter(|t| t.ends_with(".toml")) {
            println!("cargo::rerun-if-changed={file}");
        }
        let out = std::env::var_os("OUT_DIR").ok_or(Error::NoOutDir)?;
        let options = codegen::Options { weights_file: format!("{name}.bin") };
        let generated = codegen::program::generate(&self.lower()?, &options);
        files::write(Path::new(&out), &format!("{name}.rs"), &generated)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
