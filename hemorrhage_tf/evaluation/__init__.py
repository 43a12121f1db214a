"""Metrics with confidence intervals, from labels and probabilities alone; no model files."""
