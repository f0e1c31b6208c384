"""The history as data, its profiles, the workspace, tracking, and the commands."""
