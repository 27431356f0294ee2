"""The detector, saved, loaded and asked; thresholds with a promise; regions."""
