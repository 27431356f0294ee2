"""Machines and services: params.yaml, how commands end, MLflow, Ray, S3, provenance."""
