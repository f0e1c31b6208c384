"""What became of each claim, from measurements alone."""
