"""Keras models: backbones, the classifier around them, and the metadata of a model file."""
