"""`gemma4 batch`: a file of questions, a file of answers."""
