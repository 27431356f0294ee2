"""Reproduction: a registered version is made again from its commit, data and parameters, and compared."""
