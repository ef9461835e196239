"""What a terminal can show beyond plain lines."""
