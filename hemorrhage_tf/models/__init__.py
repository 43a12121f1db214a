"""Keras models: backbones by name, the classifier around one, and what an artifact carries."""
