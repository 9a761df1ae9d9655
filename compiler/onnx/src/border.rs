//! The border to tract: everything that calls into it, and what happens when it fails.

use crate::names::Names;
use crate::proto_check::node_name;
use crate::{ImportError, UnsupportedNode};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use tract_onnx::pb::{GraphProto, ModelProto};
use tract_onnx::prelude::{Framework, InferenceModelExt, TypedModel};

/// Lists the operators that tract does not know, together with those that it knows and we never translate.
pub(crate) fn check_operators(graph: &GraphProto) -> Result<(), ImportError> {
    let known = tract_onnx::onnx().op_register.0;
    let reason = |op: &str| {
        (!known.contains_key(op) && !crate::kept::UNKNOWN_TO_TRACT.contains(&op))
            .then(|| format!("'{op}' is not an operator that the importer knows"))
    };
    if graph.node.iter().all(|n| reason(&n.op_type).is_none()) {
        return Ok(());
    }
    let nodes = graph.node.iter().filter_map(|n| {
        let reason = reason(&n.op_type).or_else(|| crate::translate::refusal(&n.op_type).map(str::to_owned))?;
        Some(UnsupportedNode { name: node_name(n).to_owned(), op: n.op_type.clone(), reason })
    });
    Err(ImportError::Unsupported { nodes: nodes.collect() })
}

/// Shapes and types the model. Not decluttered: that would rewrite the operations we look for.
pub(crate) fn typed_model(proto: &ModelProto) -> Result<TypedModel, ImportError> {
    let failed = |e: tract_onnx::prelude::TractError| ImportError::Library { node: None, message: format!("{e:#}") };
    let model = crate::guard::framework().model_for_proto_model(proto).map_err(failed)?;
    model.into_typed().map_err(failed)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which calls tract, and turns both its failures and its panics into errors with ONNX names.
///
/// tract indexes, unwraps and leaves cases unimplemented where a model is well formed and unusual; a build script must
/// report that as a fault of the model. Catching the unwind is sound because everything that `work` touches is
/// dropped with it. The panic message is kept from the terminal for this thread and this call only.
pub(crate) fn guarded<T>(names: &Names, work: impl FnOnce() -> Result<T, ImportError>) -> Result<T, ImportError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let was = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(was);
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            ImportError::Library { node: None, message: format!("the import library gave up: {text}") }
        }
    };
    Err(if let ImportError::Library { node: None, message } = error {
        let (message, node) = names.restore(&message);
        ImportError::Library { node, message }
    } else {
        error
    })
}
