"""Synthesis: head-CT phantoms drawn from a random seed, with masks of every hemorrhage."""
