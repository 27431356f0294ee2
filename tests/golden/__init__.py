"""Whether a method is its authors': it is compared with tensors that their code produced. A file a method says how."""
