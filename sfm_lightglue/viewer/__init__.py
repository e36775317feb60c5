"""A reconstruction for the eye: an Open3D window, and a picture rendered without a display."""

from sfm_lightglue.viewer.show import ViewConfig, view_model

__all__ = ["ViewConfig", "view_model"]
