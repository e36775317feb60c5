"""Video -> trajectory and map: visual SLAM with one camera."""
