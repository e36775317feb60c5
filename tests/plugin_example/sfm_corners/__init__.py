"""An example of a plug-in: corners described by the surrounding pixels, their correlation, and strided pairs."""
