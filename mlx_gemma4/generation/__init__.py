"""From a prompt to an answer, token by token; and long recordings, piece by piece."""
