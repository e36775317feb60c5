"""From verified pairs to a map: COLMAP through pycolmap, which is imported in this room only."""
