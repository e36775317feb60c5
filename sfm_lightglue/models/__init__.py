"""Networks: one paper, one file. Nothing is imported here, so that torch is loaded only where it is used."""
