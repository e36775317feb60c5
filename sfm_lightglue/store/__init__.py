"""The crash-safe store of results, atomic files, and the output folder."""
