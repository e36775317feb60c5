"""Training of matchers on rendered scenes with photographs as textures: data, losses, trainer."""
