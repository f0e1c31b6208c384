"""What every training by gradients needs."""
