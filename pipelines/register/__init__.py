"""Stage register: the detector becomes a version under @challenger."""
