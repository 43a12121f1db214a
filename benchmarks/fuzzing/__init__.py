"""Fuzz the readers: corpus, mutations, worker process and the parent that counts."""
