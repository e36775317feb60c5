"""True values, errors against them, and tables; the demo scene."""
