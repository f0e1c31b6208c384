"""Image classification: one label per image, answered by up to five classes."""
