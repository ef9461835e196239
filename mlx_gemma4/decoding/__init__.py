"""From what was read to the next tokens: caches, prompts, steps and drafts."""
