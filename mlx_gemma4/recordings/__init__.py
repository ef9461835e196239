"""Long recordings to text: cut into pieces, heard, and put together again."""
