"""Which method suits a product: all that are asked for, trained and judged alike."""
