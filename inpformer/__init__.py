"""INP-Former: anomaly detection with normal prototypes taken from the test image itself.

The method and nothing else: encoders, model, losses, optimiser, detector, calibration, metrics and data-set
layouts. Needs torch, timm, numpy, scipy, Pillow and safetensors, so it runs on a bare GPU box.
"""
