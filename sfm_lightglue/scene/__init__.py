"""A folder of photos -> `Scene`; camera models; which photos share a camera."""
