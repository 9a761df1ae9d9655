"""Training recipe of the flowlet example models: teacher, pairs, reflow, one-step distillation, export."""
