"""A checkpoint's folder: its files, its tensors' names, and the model they make."""
