"""`gemma4 config`: the settings file, presets, and where each setting comes from."""
