"""All that is served."""

from . import chat, models

ROUTES = (*models.ROUTES, *chat.ROUTES)
