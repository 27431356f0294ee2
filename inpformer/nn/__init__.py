"""What methods share: optimiser, projection, maps, tensors in a file."""
