"""Training of matchers from photographs alone: rendered scenes with exact correspondences, losses, trainer."""
