"""`gemma4 describe`."""
