"""Stage train: the detector, not calibrated yet."""
