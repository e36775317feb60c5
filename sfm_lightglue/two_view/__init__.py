"""Two-view geometry: from the matches of two images to relative pose, focal length and uncertainty."""
