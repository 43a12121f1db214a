"""Pretraining: how PhantomNet, the embedded backbone, is trained on phantoms alone."""
