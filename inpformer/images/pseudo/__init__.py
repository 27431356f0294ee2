"""Pseudo-anomalies: good pictures with something foreign in them, and its mask, made without any defective image.

After DRAEM (Zavrtanik, Kristan and Skočaj, "DRAEM: a discriminatively trained reconstruction embedding for surface
anomaly detection", ICCV 2021): a region is cut out of Perlin noise and filled from a texture, more or less opaque.
Pictures are arrays [H, W, 3] of uint8, masks [H, W] of true and false; all chance comes from the generator given.
"""
