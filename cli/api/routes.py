"""All that is served."""

from . import chat, completions, models, transcriptions
from .messages.route import ROUTES as MESSAGES
from .responses.route import ROUTES as RESPONSES

ROUTES = (
    *(*models.ROUTES, *chat.ROUTES, *completions.ROUTES, *RESPONSES),
    *(*MESSAGES, *transcriptions.ROUTES),
)
