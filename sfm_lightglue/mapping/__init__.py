"""From verified pairs to a map: COLMAP through pycolmap."""
