"""Ground truth, errors of matches, poses and reconstructions, and tables; the demo scene."""
