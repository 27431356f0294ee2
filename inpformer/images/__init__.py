"""Pictures: layouts of data sets, opening, what the encoder sees of them, tiles, pseudo-anomalies."""
