"""What can go wrong with a wish and with the result, beside the library's errors."""


class RecipeError(ValueError):
    """A recipe, an override or a target size that cannot be used."""


class OutputError(OSError):
    """The result cannot be written: no space, no permission, or in the way."""
