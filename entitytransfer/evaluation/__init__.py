"""Evaluation: what predicts a set, its predictions on disk, and what scoring them gives."""
