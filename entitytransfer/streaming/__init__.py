"""Streaming: the frames of a clip in, its results out window by window, and the store that keeps them on disk."""
