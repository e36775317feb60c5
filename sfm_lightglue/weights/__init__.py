"""Files of weights: catalogue, lookup, download, safe reading, and the files that come with the package."""
