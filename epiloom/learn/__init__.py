"""Loading, training, metrics and baselines, one of each for all models."""
