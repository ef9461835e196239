"""Pictures and video frames: from files to patches to soft tokens."""
