"""Prompts that were read, kept on the disk, so that no later run reads them again."""
