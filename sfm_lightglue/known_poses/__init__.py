"""Cameras and poses that are known already, read from the files of other programs."""
