//! Programs on hosts: over f32 networks in the interpreter, or over int8 plans in the executor that devices run.

use crate::ScoreError;
use crate::layout::{channels_first, channels_last};
use flowlet::plan::CheckedPlan;
use flowlet::plan::program::INDICES;
use flowlet::program::{Nets, Operands, Plans, Runner, Values};
use flowlet::{ARENA_ALIGNMENT, RunError};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Def, Graph, InputKind, Tensor};
use flowlet_compiler::program::LoweredProgram;
use flowlet_compiler::quantize::Calibration;

/// A program that is ready to run; shared by all threads.
pub struct ProgramEngine<'a> {
    lowered: &'a LoweredProgram,
    form: Form<'a>,
}

enum Form<'a> {
    Float(Vec<(&'a Graph, Interpreter<'a>)>),
    Plans(Vec<CheckedPlan<'a>>),
}

impl<'a> ProgramEngine<'a> {
    /// A program over f32 graphs, bound by [`flowlet_compiler::program::float`].
    pub fn float(lowered: &'a LoweredProgram, graphs: &'a [Graph]) -> Self {
        let nets = graphs.iter().map(|graph| (graph, Interpreter::new(graph))).collect();
        ProgramEngine { lowered, form: Form::Float(nets) }
    }

    /// A program over plans, one for each network.
    pub fn plans(lowered: &'a LoweredProgram, plans: Vec<CheckedPlan<'a>>) -> Self {
        ProgramEngine { lowered, form: Form::Plans(plans) }
    }

    /// The program and its places.
    pub fn lowered(&self) -> &'a LoweredProgram {
        self.lowered
    }

    /// Calls `f` with a runner in fresh memory, and the networks. What `f` returns is checked against nothing: a program
    /// that needs several calls makes them inside.
    ///
    /// # Errors
    /// What the runtime refuses, or `f` fails with.
    pub fn with<R>(
        &self,
        f: impl FnOnce(&mut Runner<'_, '_>, &mut HostNets<'_, '_>) -> Result<R, RunError>,
    ) -> Result<R, ScoreError> {
        self.watched(None, f)
    }

    fn watched<R>(
        &self,
        watch: Option<Watch<'_>>,
        f: impl FnOnce(&mut Runner<'_, '_>, &mut HostNets<'_, '_>) -> Result<R, RunError>,
    ) -> Result<R, ScoreError> {
        let mut words = vec![0.0; self.lowered.words];
        let mut held = vec![0; self.lowered.held_bytes];
        let mut arena = vec![0i8; self.lowered.arena_bytes() + ARENA_ALIGNMENT];
        let skip = arena.as_ptr().align_offset(ARENA_ALIGNMENT).min(ARENA_ALIGNMENT);
        let wrong = |message: String| ScoreError::Model { name: self.lowered.program.name.clone(), message };
        self.lowered.with_program(|program| {
            let form = match &self.form {
                Form::Float(nets) => HostForm::Float(nets),
                Form::Plans(plans) => HostForm::Plans(Plans::new(&program, plans, &mut arena[skip..])?),
            };
            let mut nets = HostNets { form, watch };
            let checked = program.check().map_err(|e| wrong(e.to_string()))?;
            let mut runner = Runner::new(checked, &mut words, &mut held)?;
            Ok(f(&mut runner, &mut nets)?)
        })
    }
}

/// Called with the number of a network and its inputs, before each pass of an f32 network.
type Watch<'w> = Box<dyn FnMut(usize, &[Tensor]) + 'w>;

/// A program's networks on a host.
pub struct HostNets<'n, 'w> {
    form: HostForm<'n>,
    watch: Option<Watch<'w>>,
}

enum HostForm<'n> {
    Float(&'n [(&'n Graph, Interpreter<'n>)]),
    Plans(Plans<'n, 'n>),
}

impl Nets for HostNets<'_, '_> {
    fn call(&mut self, net: usize, rows: [u16; INDICES], operands: &mut Operands<'_>) -> Result<(), RunError> {
        let nets = match &mut self.form {
            HostForm::Plans(plans) => return plans.call(net, rows, operands),
            HostForm::Float(nets) => nets,
        };
        let (graph, interpreter) = &nets[net];
        let mut real = operands.inputs();
        let mut rows = rows.into_iter();
        let mut inputs = Vec::new();
        for &id in &graph.inputs {
            let ty = graph.ty(id);
            inputs.push(match graph.value(id).def {
                Def::Input(InputKind::Index { .. }) => {
                    Tensor::i64(&ty.dims, vec![i64::from(rows.next().unwrap_or(0)); ty.elements()])
                }
                Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => match real.next() {
                    Some((_, Values::Words(values))) => Tensor::f32(&ty.dims, channels_first(&ty.dims, values)),
                    // Held tensors hold quantised bytes; f32 networks have none.
                    Some((_, Values::Held(_))) | None => Tensor::f32(&ty.dims, vec![0.0; ty.elements()]),
                },
            });
        }
        drop(real);
        if let Some(watch) = &mut self.watch {
            watch(net, &inputs);
        }
        // The types were checked when the program was bound, so the interpreter takes these tensors.
        let outputs = interpreter.run(&inputs).unwrap_or_default();
        operands.outputs(|number, values| {
            let output = outputs.get(number).and_then(|t| Some((t, t.as_f32()?)));
            if let (Some((tensor, real)), Values::Words(place)) = (output, values) {
                place.copy_from_slice(&channels_last(&tensor.dims, real));
            }
            Ok(())
        })
    }
}

/// What each network of a program is calibrated on: the inputs of every pass that the program makes over f32 networks.
/// `run` is called with the number of a run, `0..runs`.
///
/// # Errors
/// What the runtime refuses, or `run` fails with.
pub fn calibrations(
    engine: &ProgramEngine<'_>,
    runs: usize,
    mut run: impl FnMut(usize, &mut Runner<'_, '_>, &mut HostNets<'_, '_>) -> Result<(), RunError>,
) -> Result<Vec<Calibration>, ScoreError> {
    let mut samples: Vec<Vec<Vec<Tensor>>> = vec![Vec::new(); engine.lowered.program.nets.len()];
    for number in 0..runs {
        let watch = Box::new(|net: usize, inputs: &[Tensor]| samples[net].push(inputs.to_vec()));
        engine.watched(Some(watch), |runner, nets| run(number, runner, nets))?;
    }
    let source = format!("passes of {runs} runs of the program");
    Ok(samples.into_iter().map(|samples| Calibration::from_samples(samples, &source)).collect())
}
