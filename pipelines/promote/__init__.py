"""Promotion: @champion moves to another version."""
