"""Slices on their way from files to model input: reading, listing, splitting, augmenting."""
