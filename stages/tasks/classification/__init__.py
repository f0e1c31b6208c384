"""Image classification: one label an image, answered by up to five classes."""
