"""What goes wrong on purpose, by a script or from a test."""
