"""All that is served."""

from . import chat, completions, models

ROUTES = (*models.ROUTES, *chat.ROUTES, *completions.ROUTES)
