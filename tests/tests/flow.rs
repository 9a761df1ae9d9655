//! The check of the flow convention: silent on every committed model as it is described, loud on a planted mistake.
#![allow(clippy::unwrap_used)]

use flowlet_cli::model::Model;
use flowlet_cli::options::{FlowArgs, ModelArgs};
use flowlet_compiler::flow::{DirectionCheck, Prediction, check_direction};
use flowlet_compiler::quantize::Calibration;
use flowlet_tests::models::{NAMES, OTHERS, file};

fn checked(name: &str, flow: FlowArgs) -> DirectionCheck {
    let model = Model::load(&ModelArgs { flow, ..ModelArgs::of(file(name, "onnx")) }).unwrap();
    let samples = Calibration::held_out(&model.graph, 6).unwrap();
    check_direction(&model.graph, model.options.flow.as_ref().unwrap(), &samples).unwrap().unwrap()
}

#[test]
fn a_planted_mistake_is_noticed_and_nothing_else() {
    for name in NAMES.into_iter().chain(OTHERS) {
        let right = checked(name, FlowArgs::default());
        assert_eq!(right.warning(), None, "{name}: {right:#?}");
        let wrong_end = checked(name, FlowArgs { noise_at: Some(1), ..FlowArgs::default() });
        let warning = wrong_end.warning().unwrap_or_else(|| panic!("{name}: {wrong_end:#?}"));
        assert!(warning.contains("with noise_at = 0, prediction = v"), "{name}: {warning}");
        let no_velocity = checked(name, FlowArgs { prediction: Some(Prediction::Data), ..FlowArgs::default() });
        assert!(no_velocity.warning().is_some(), "{name}: {no_velocity:#?}");
    }
}
