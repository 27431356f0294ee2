"""A training on Ray, which train and tune share: jobs, workers, checkpoints."""
