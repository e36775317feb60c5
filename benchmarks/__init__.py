"""Benchmarks of speed, memory and accuracy; they print tables and write JSON."""
