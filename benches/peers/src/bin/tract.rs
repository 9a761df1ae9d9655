//! tract, f32, with its own optimisation.

use flowlet_peers::{Job, serve};
use flowlet_score::npy::Elements;
use tract_onnx::prelude::*;

fn main() -> anyhow::Result<()> {
    let job = Job::from_args()?;
    serve(|| {
        anyhow::ensure!(job.threads == 1, "tract runs one thread");
        let mut model = tract_onnx::onnx().model_for_path(&job.model)?;
        let mut inputs = TVec::new();
        for i in 0..model.inputs.len() {
            let outlet = model.inputs[i];
            let name = model.node(outlet.node).name.clone();
            let array = job.sample(&name)?;
            let tensor = match &array.elements {
                Elements::I64(values) => Tensor::from_shape(&array.shape, values)?,
                Elements::F32(_) | Elements::F64(_) | Elements::U8(_) => {
                    Tensor::from_shape(&array.shape, &array.to_f32())?
                }
            };
            model.set_input_fact(i, InferenceFact::dt_shape(tensor.datum_type(), &array.shape))?;
            inputs.push(tensor.into_tvalue());
        }
        let model = model.into_optimized()?.into_runnable()?;
        let call = move || {
            let outputs = model.run(inputs.clone())?;
            let mut all = Vec::new();
            for output in outputs {
                all.extend_from_slice(output.to_plain_array_view::<f32>()?.as_slice().unwrap_or(&[]));
            }
            Ok(all)
        };
        Ok(("0.23.9".to_owned(), Box::new(call)))
    })
}
