"""All that is served."""

from . import chat, messages, models

ROUTES = (*models.ROUTES, *chat.ROUTES, *messages.ROUTES)
