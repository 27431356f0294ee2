"""What methods share: optimiser, projection, blocks and patches of transformers, maps, tensors in a file."""
