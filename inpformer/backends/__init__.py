"""Who computes: PyTorch, or a runtime that is given the network as files."""
