"""Tools that run: typed functions and servers' tools, and the turns that use them."""
