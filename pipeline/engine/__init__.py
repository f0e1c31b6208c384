"""What the commands share: the workspace, a command's data, runs and the executor."""
