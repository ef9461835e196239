"""Sound: from files to log-mel frames to soft tokens."""
