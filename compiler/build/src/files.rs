//! The files of a generated module.

use crate::Error;
use flowlet_compiler::codegen::Generated;
use std::path::{Path, PathBuf};

/// Source of a committed module.
pub(crate) const SOURCE: &str = "mod.rs";
/// Weights of a committed module.
pub(crate) const WEIGHTS: &str = "weights.bin";

/// Writes source and weights; a file that has these contents keeps its time of change, so that nothing is built again.
pub(crate) fn write(folder: &Path, source: &str, generated: &Generated) -> Result<[PathBuf; 2], Error> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    let paths = [folder.join(source), folder.join(&generated.weights_file)];
    for (path, contents) in paths.iter().zip([generated.source.as_bytes(), &generated.weights]) {
        if std::fs::read(path).ok().as_deref() != Some(contents) {
            std::fs::write(path, contents).map_err(|e| Error::io("write", path, e))?;
        }
    }
    Ok(paths)
}

/// The files that are missing or have other contents.
pub(crate) fn stale(folder: &Path, generated: &Generated) -> Result<Vec<PathBuf>, Error> {
    let mut stale = Vec::new();
    for (name, contents) in [(SOURCE, generated.source.as_bytes()), (WEIGHTS, &generated.weights)] {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(found) if found == contents => {}
            Ok(_) => stale.push(path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => stale.push(path),
            Err(e) => return Err(Error::io("read", &path, e)),
        }
    }
    Ok(stale)
}
