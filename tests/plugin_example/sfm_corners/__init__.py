"""An example of a plug-in: corners described by the pixels around them, their correlation, and strided pairs."""
