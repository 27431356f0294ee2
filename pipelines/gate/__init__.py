"""Stage gate: looks for what would spoil a model or its thresholds."""
