"""All that is served."""

from . import chat, completions, messages, models, transcriptions
from .responses.route import ROUTES as RESPONSES

ROUTES = (
    *(*models.ROUTES, *chat.ROUTES, *completions.ROUTES, *RESPONSES),
    *(*messages.ROUTES, *transcriptions.ROUTES),
)
