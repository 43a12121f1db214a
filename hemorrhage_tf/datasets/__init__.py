"""Data sets: which slices there are, their labels, and the index of every slice read once."""
