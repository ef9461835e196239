"""`gemma4 pull`, `list`, `show`, `rm` and `default`; and the model for a command."""
