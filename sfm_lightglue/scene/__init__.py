"""A folder of images -> `Scene`; camera models; which images share a camera."""
