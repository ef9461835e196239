"""What other programs speak with the server: one module per protocol."""
