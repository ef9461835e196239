"""Tools that run: their options, what is asked before, and the turns with them."""
