"""New thresholds for a registered version."""
