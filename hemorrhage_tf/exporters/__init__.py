"""Exporters to SavedModel and TFLite, verified before anything is written, and the benchmark."""
