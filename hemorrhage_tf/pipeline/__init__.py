"""Bring slices to model input, augment them, and feed both to TensorFlow."""
