"""Reads the record of a registered model, and checks it."""
