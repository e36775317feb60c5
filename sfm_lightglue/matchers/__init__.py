"""Correspondences: a `Matcher` turns the `Features` of two images into `Matches`; one adapter per file."""
