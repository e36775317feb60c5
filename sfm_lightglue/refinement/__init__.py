"""Sub-pixel refinement of the keypoints of a model's tracks, and adjustment of the model by their precision."""
