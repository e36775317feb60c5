"""What measures speed, memory and accuracy; prints tables, writes JSON."""
