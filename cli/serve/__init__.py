"""`gemma4 serve`: the model behind HTTP."""
