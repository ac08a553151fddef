"""Tracking: what a window shows, and how much that resembles the tracks so far; `tracklets` links the two."""
