"""Frozen networks by name and digest, the levels that they give, and what a method takes of them."""
