"""Stage calibrate: thresholds from held-out good images."""
