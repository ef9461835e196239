"""Text in and out of the chat format: pure functions of text, no model."""
