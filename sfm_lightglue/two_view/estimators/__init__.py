"""Robust estimators of two-view matrices, one library or method a file, behind one protocol."""
