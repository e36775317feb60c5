"""Loops of SIFT, guided matching, poses and points in compiled C; without a C compiler, NumPy does the same work."""
