"""Tracking: the parts of `video` and `tracklets`, from what one window shows to the tracks of a clip on disk."""
