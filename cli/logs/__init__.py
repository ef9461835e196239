"""Conversations that are kept, and `gemma4 logs`."""
