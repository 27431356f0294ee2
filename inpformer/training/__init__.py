"""The loop, phase by phase of a method, without Ray."""
