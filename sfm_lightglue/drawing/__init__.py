"""Images of matches, cameras and points, drawn with Pillow or written as SVG."""
