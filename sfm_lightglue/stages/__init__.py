"""Extract, match and verify a whole scene: cached and streamed."""
