"""All that is served."""

from . import chat, messages, models, transcriptions
from .responses.route import ROUTES as RESPONSES

ROUTES = (
    *(*models.ROUTES, *chat.ROUTES, *RESPONSES),
    *(*messages.ROUTES, *transcriptions.ROUTES),
)
