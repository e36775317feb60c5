"""Photos in, camera poses and a 3D point cloud out, with a complete LightGlue as the matcher."""

__version__ = "0.1.0"
