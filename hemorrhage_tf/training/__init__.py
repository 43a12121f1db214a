"""Training: settings, device strategy, cached backbone features, the loop, the run folder."""
