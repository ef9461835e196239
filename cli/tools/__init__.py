"""Tools that `gemma4 chat` runs: where they come from, who allows it, what they say."""
