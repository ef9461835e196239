"""Gemma 4 as a plugin of `llm`: https://llm.datasette.io"""
