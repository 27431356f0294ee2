"""Stage manifest: takes stock of the images."""
