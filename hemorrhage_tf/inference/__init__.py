"""Predict with a trained model: one base class, one subclass for each form."""
