"""The record of a registered model: who did what to it, entry by entry, each with the digest of the one before."""
