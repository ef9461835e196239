"""How commands are typed: their help, what a slip is told, and completion."""
