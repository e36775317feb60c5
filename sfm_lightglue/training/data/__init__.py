"""Training data: labelled pairs, shards, their producer, batches and the data loader."""
