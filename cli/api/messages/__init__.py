"""Anthropic's API: `/v1/messages`, and how many tokens a conversation has."""
