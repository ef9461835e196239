"""All that is served."""

from . import chat, models
from .responses.route import ROUTES as RESPONSES

ROUTES = (*models.ROUTES, *chat.ROUTES, *RESPONSES)
