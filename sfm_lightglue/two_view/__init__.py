"""Matches of two images -> geometry, relative pose, focal length and uncertainty."""
