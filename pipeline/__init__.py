"""The history itself, its profiles, the workspace, tracking, and the command lines."""
