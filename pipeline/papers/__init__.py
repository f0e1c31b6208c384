"""One file per paper, in the order of the years."""
