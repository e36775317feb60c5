"""Training pairs: labels, shards, their production, and batches."""
