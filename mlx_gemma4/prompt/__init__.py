"""From messages and their media to tokens."""
