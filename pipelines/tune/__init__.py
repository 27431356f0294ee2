"""Stage tune: looks for better settings of train."""
