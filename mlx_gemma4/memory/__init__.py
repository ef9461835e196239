"""What a model and a conversation take in memory, told before they take it."""
