"""Reading files that anybody may have written, with errors that name them."""
