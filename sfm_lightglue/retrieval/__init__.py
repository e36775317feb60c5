"""Similar images: a global descriptor of each image, made of its local features, and exact search among them."""
