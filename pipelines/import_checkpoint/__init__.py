"""The authors' checkpoints become versions."""
