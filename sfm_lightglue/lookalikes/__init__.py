"""Places that look alike: evidence that a verified pair is a true overlap, and which pairs mapping may use."""
