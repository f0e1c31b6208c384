"""From an archive to a report: plain functions from typed inputs to files."""
