"""Training: settings, folds, the head solver, the loop, the trainer, and writing a run folder."""
