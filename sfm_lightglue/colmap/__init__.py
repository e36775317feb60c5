"""Read and write COLMAP's databases and models."""
