"""The made-up products: drawn, photographed, spoilt."""
