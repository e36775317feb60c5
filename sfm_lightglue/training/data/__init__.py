"""Training data: labelled scenes, shards, their producer, and batches of pairs on the device of the training."""
