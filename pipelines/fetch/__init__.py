"""Data from S3."""
