"""Figures with their intervals, from arrays alone: nothing here knows a model file."""
