"""Training on several workers, each a process with devices of its own."""
