//! The networks that score, and what real data look like in them.

use super::source::is_program;
use super::{Args, scoring_folder};
use crate::model::Model;
use crate::model_toml::ModelToml;
use crate::options::ModelArgs;
use anyhow::{Context, anyhow, bail};
use flowlet_compiler::ir::Graph;
use flowlet_score::{Reference, Scorer, feature_count};
use std::path::Path;

/// A feature network, and the scorer where there is a reference.
#[derive(Clone, Debug)]
pub struct Networks {
    /// The feature network.
    pub features: Graph,
    /// It with its reference, and a classifier if there is one.
    pub scorer: Option<Scorer>,
}

impl Networks {
    /// The networks that the arguments name: `--features`, `--reference` and `--accuracy`, or those of a folder.
    ///
    /// # Errors
    /// When a file is missing or does not fit.
    pub fn load(args: &Args) -> anyhow::Result<Self> {
        let writing = args.write_reference.is_some();
        let mut networks = match (&args.features, &args.reference) {
            (None, None) if args.scoring.is_none() && !writing => match named_by_model(args)? {
                Some(networks) => networks,
                None => Self::of_folder(args)?,
            },
            (Some(_), None) if !writing => bail!(
                "--features needs --reference FILE.npz, what real data look like in that network; write it with \
                 --write-reference"
            ),
            (Some(features), reference) => {
                let features = network(features)?;
                let reference = reference.as_ref().map(|path| Reference::from_npz(path)).transpose()?;
                let scorer = reference.map(|r| Scorer::new(features.clone(), r)).transpose()?;
                Networks { features, scorer }
            }
            (None, Some(reference)) => {
                let features = in_folder(&scoring_folder(args)?, "features")?;
                let scorer = Some(Scorer::new(features.clone(), Reference::from_npz(reference)?)?);
                Networks { features, scorer }
            }
            (None, None) if writing => {
                Networks { features: in_folder(&scoring_folder(args)?, "features")?, scorer: None }
            }
            (None, None) => Self::of_folder(args)?,
        };
        if let Some(path) = &args.accuracy {
            let classifier = network(path)?;
            networks.scorer = networks.scorer.map(|scorer| scorer.with_accuracy(classifier)).transpose()?;
        }
        Ok(networks)
    }

    fn of_folder(args: &Args) -> anyhow::Result<Self> {
        let folder = scoring_folder(args)?;
        let features = in_folder(&folder, "features")?;
        let scorer = Scorer::new(features.clone(), Reference::from_folder(&folder)?)?;
        let scorer = match args.accuracy {
            Some(_) => scorer,
            None => scorer.with_accuracy(in_folder(&folder, "accuracy")?)?,
        };
        Ok(Networks { features, scorer: Some(scorer) })
    }

    /// Labels that the classifier tells apart, if there is one.
    pub fn labels(&self) -> Option<usize> {
        self.scorer.as_ref().and_then(Scorer::labels)
    }

    /// The scorer.
    ///
    /// # Errors
    /// When there is no reference.
    pub fn scorer(&self) -> anyhow::Result<&Scorer> {
        self.scorer.as_ref().ok_or_else(|| anyhow!("there is no reference to score against"))
    }

    /// Features of one picture.
    ///
    /// # Errors
    /// When the network has another form.
    pub fn feature_count(&self) -> anyhow::Result<usize> {
        Ok(feature_count(&self.features)?)
    }

    /// Dimensions of one picture, with the batch axis.
    pub fn picture_dims(&self) -> &[usize] {
        self.features.inputs.first().map_or(&[], |&id| &self.features.ty(id).dims)
    }
}

/// The networks of the table `[scoring]` in the `model.toml` beside the model, if there is one.
fn named_by_model(args: &Args) -> anyhow::Result<Option<Networks>> {
    let Some(model) = &args.model.0 else { return Ok(None) };
    let beside = |path: &Path| path.with_file_name("model.toml");
    let places = match &model.config {
        Some(config) => vec![config.clone()],
        None if model.model.extension().is_some_and(|e| e == "toml") => vec![model.model.clone()],
        // A program lies in a folder of its model's.
        None => {
            let above = model.model.parent().filter(|_| is_program(&model.model)).map(beside);
            std::iter::once(beside(&model.model)).chain(above).collect()
        }
    };
    let read = |path: std::path::PathBuf| Some((std::fs::read_to_string(&path).ok()?, path));
    let Some((text, path)) = places.into_iter().find_map(read) else { return Ok(None) };
    let Some(named) = ModelToml::parse(&text, &path)?.scoring else { return Ok(None) };
    let features = network(&path.with_file_name(&named.features))?;
    let mut scorer = Scorer::new(features.clone(), Reference::from_npz(&path.with_file_name(&named.reference))?)?;
    if let Some(classifier) = named.accuracy.filter(|_| args.accuracy.is_none()) {
        scorer = scorer.with_accuracy(network(&path.with_file_name(classifier))?)?;
    }
    Ok(Some(Networks { features, scorer: Some(scorer) }))
}

fn in_folder(folder: &Path, name: &str) -> anyhow::Result<Graph> {
    let paths = ["flq", "onnx"].map(|e| folder.join(name).with_extension(e));
    match paths.iter().find(|p| p.exists()) {
        Some(path) => network(path),
        None => bail!("{} holds neither {name}.flq nor {name}.onnx", folder.display()),
    }
}

fn network(path: &Path) -> anyhow::Result<Graph> {
    let graph = || Ok::<Graph, anyhow::Error>(Model::load(&ModelArgs::of(path))?.float()?.clone());
    graph().with_context(|| format!("the scoring network {} cannot be used", path.display()))
}
