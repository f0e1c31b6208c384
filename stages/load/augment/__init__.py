"""From a decoded image to what a network sees.

Geometry happens on uint8 in the loader's processes (`crops`), arithmetic on floats on the training
device (`colour`). All randomness is drawn by `draws`, of seed, epoch and image.
"""
