"""Jobs over a scene: reconstruct it, or add it to a COLMAP database."""
