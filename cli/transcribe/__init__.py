"""`gemma4 transcribe`."""
