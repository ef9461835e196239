"""How answers are made: what the sampling options and /set change."""

from dataclasses import dataclass

from mlx_gemma4.errors import ChatError

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


@dataclass
class Settings:
    """How answers are made. None leaves a value to the checkpoint."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    think: bool = False
    image_tokens: int | None = None  # the most a picture attached from now on takes

    def check(self) -> None:
        """Raises ChatError for a value that no answer can be made with."""
        from mlx_gemma4.chat.splitter import StopStrings
        from mlx_gemma4.prompt.attachments import BUDGETS, IMAGE_TOKENS
        from mlx_gemma4.sampling import Sampling

        values = {name: getattr(self, name) for name in SAMPLING}
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, bool):
                raise ChatError(f"{name} is {value!r}; it must be a number.")
        Sampling(**given)
        most = self.max_tokens
        if most is not None and (type(most) is not int or most < 1):
            raise ChatError(
                f"max_tokens is {most!r}; it must be a whole number from 1."
            )
        if not isinstance(self.think, bool):
            raise ChatError(f"think is {self.think!r}; it must be true or false.")
        if not isinstance(self.stop, tuple):
            raise ChatError(f"stop is {self.stop!r}; it must be a list of texts.")
        StopStrings(self.stop)
        if self.image_tokens is not None and (
            type(self.image_tokens) is not int or self.image_tokens not in IMAGE_TOKENS
        ):
            raise ChatError(
                f"image_tokens is {self.image_tokens!r}; it can be {BUDGETS}."
            )
