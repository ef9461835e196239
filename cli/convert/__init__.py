"""`gemma4 convert`."""
