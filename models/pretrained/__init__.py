"""Networks that others trained: where their weights come from, and what their images must look like."""
