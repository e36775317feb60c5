"""Robust estimators of two-view matrices behind one protocol, one file per library."""
