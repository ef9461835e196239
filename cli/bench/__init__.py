"""`gemma4 bench`."""
