"""Local features: an `Extractor` turns an image into `Features`; one adapter per file."""
