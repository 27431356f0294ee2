"""Image and pixel metrics, exact, and their intervals."""
