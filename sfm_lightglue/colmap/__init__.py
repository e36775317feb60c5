"""COLMAP's databases and models, read and written."""
