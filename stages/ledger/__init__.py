"""The verdict on each claim, from measurements alone."""
