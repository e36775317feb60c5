"""Show reconstructions with Open3D: in a window, or as a picture or a film rendered without a display."""

from sfm_lightglue.viewer.look import Look
from sfm_lightglue.viewer.show import ViewConfig, Viewed, view_models

__all__ = ["Look", "ViewConfig", "Viewed", "view_models"]
