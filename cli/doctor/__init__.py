"""`gemma4 doctor`."""
