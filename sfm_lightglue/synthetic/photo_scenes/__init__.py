"""Scenes with photographs as textures, rendered with exact depth, for training."""
