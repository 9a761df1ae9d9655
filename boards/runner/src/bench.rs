//! Counted layers: the firmware names each after its counted region.

use crate::launch::{last_words, launch};
use crate::line::{Line, LineError};
use crate::report::Counts;
use crate::{Error, Launch};

/// One layer's count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Instructions that one call executed.
    pub instructions: u64,
}

/// Runs the firmware, with the counting plugin, and returns its layers in order.
///
/// # Errors
/// When the emulator cannot be started or ends badly, a line is malformed, the closing line never came, or the counted
/// regions are not one a layer.
pub fn run(what: &Launch<'_>) -> Result<Vec<Layer>, Error> {
    let output = launch(what)?;
    let help = |error: Error| error.at(what.elf).help(last_words(&output.stdout, &output.stderr));
    if output.code != Some(0) {
        return Err(help(Error::new("the bench firmware failed")));
    }
    collect(&output.stdout, &Counts::read(&output.stderr).regions).map_err(help)
}

fn collect(text: &str, regions: &[u64]) -> Result<Vec<Layer>, Error> {
    let mut names = Vec::new();
    let mut done = false;
    for line in text.lines() {
        let refused = |why: LineError| Error::new(format!("a line that cannot be read: {why}"));
        match line.split(' ').next() {
            Some("layer") => {
                names.push(Line::parse(line).and_then(|l| Ok(l.text("name")?.to_owned())).map_err(refused)?)
            }
            Some("done") => done = true,
            _ => {}
        }
    }
    if !done {
        return Err(Error::new("its closing line never came"));
    }
    if names.len() != regions.len() {
        return Err(Error::new(format!("{} regions were counted for {} layers", regions.len(), names.len())));
    }
    Ok(names.into_iter().zip(regions).map(|(name, &instructions)| Layer { name, instructions }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_its_region() {
        let text = "layer name=a\nhello\nlayer name=b\ndone bench=mcu\n";
        let layers = collect(text, &[5, 7]).unwrap();
        assert_eq!((layers[1].name.as_str(), layers[1].instructions), ("b", 7));
        assert!(collect(text, &[5]).is_err());
        assert!(collect("layer name=a\n", &[5]).is_err());
    }
}
