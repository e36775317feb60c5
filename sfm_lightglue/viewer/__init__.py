"""Show a reconstruction with Open3D: in a window, or as an image file rendered without a display."""

from sfm_lightglue.viewer.show import ViewConfig, view_model

__all__ = ["ViewConfig", "view_model"]
