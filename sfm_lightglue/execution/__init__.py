"""How work runs: threads, progress and devices."""
