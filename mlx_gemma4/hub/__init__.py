"""The Hugging Face Hub: which models there are, what they cost, and their files."""
