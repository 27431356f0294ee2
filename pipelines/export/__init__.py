"""Exports of a registered version for a runtime, each with the proof that it decides as the version does."""
