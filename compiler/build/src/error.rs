//! Why a model was not built, as a sentence.

use flowlet_compiler::flq::FlqError;
use flowlet_compiler::lower::LowerError;
use flowlet_compiler::target::{TARGETS, UnknownTarget};
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a model was not built. A build script whose `main` returns it prints the sentence.
#[non_exhaustive]
pub enum Error {
    /// A file could not be used.
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not a usable `.flq`.
    Flq {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FlqError,
    },
    /// The text is not a graph.
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// No target was named.
    NoTarget,
    /// The target is unknown.
    Target(UnknownTarget),
    /// The model cannot be lowered for the target.
    Lower {
        /// The model.
        path: PathBuf,
        /// Why.
        error: LowerError,
    },
    /// The program is not usable, or does not fit its networks or the target.
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Not called from a build script.
    NoOutDir,
    /// Committed code is not what the model gives now.
    Stale {
        /// The files that differ or are missing.
        files: Vec<PathBuf>,
        /// The model.
        model: PathBuf,
        /// Name of the target.
        target: String,
        /// The folder that was compared.
        folder: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, error: std::io::Error) -> Error {
        Error::Io { action, path: path.to_owned(), error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, error } => write!(f, "cannot {action} {}: {error}", path.display()),
            Error::Flq { path, error } => write!(f, "{}: {error}", path.display()),
            Error::Text { path, message } => write!(f, "{}: {message}", path.display()),
            Error::NoTarget => {
                let known: Vec<&str> = TARGETS.iter().map(|t| t.name.as_ref()).collect();
                write!(f, "name a target with .target(\"...\"); known are {}", known.join(", "))
            }
            Error::Target(error) => error.fmt(f),
            Error::Lower { path, error } => write!(f, "{}: {error}", path.display()),
            Error::Program { path, message } => write!(f, "{}: {message}", path.display()),
            Error::NoOutDir => {
                f.write_str("OUT_DIR is not set: emit() belongs in a build script, write_to() elsewhere")
            }
            Error::Stale { files, model, target, folder } => {
                let files: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
                write!(
                    f,
                    "{} {} not what {} gives now: run 'flowlet build {} --target {target} -o {}'",
                    files.join(" and "),
                    if files.len() == 1 { "is" } else { "are" },
                    model.display(),
                    model.display(),
                    folder.display()
                )
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
