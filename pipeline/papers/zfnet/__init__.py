"""See recipes.py."""
