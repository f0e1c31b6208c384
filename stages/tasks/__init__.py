"""Tasks: each folder holds one, with its targets, losses, tests and metrics."""
