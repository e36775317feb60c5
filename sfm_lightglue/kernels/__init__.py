"""Loops of SIFT and guided matching in compiled C, for processors; without a C compiler, NumPy does the same work."""
