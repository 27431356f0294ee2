"""Stage evaluate: what the detector is worth on the test images."""
