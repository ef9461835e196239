"""Several processes that hold a model together: the first decides, others follow."""
