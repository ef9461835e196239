"""`gemma4 chat`: one answer, or a conversation."""
