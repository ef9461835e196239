"""All that is served."""

from . import chat, messages, models, transcriptions

ROUTES = (*models.ROUTES, *chat.ROUTES, *messages.ROUTES, *transcriptions.ROUTES)
