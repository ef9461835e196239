"""`gemma4 tune`, and `eval`, `fuse` and `export` beside it."""
