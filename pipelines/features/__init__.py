"""Stage features: each view of an image through the frozen encoder once."""
