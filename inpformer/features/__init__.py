"""The store of features. A constant stands here that settings need: they do without torch."""

SHARD_IMAGES = 64
