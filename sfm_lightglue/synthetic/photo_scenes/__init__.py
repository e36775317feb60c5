"""Scenes textured with photographs, rendered with exact depth, for training."""
