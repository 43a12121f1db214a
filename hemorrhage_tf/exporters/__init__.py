"""Export to SavedModel and TFLite, with verification, and the benchmark of every form."""
