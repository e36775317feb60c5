"""Which images to match: a `PairSelector` turns a `Scene` into pairs of names."""
