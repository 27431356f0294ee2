"""The demo and the made-up products that it trains on."""
