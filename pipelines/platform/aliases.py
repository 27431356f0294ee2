"""Which versions of a registered model are which: MLflow's aliases, by name."""

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
