"""Training: sets to batches, Lightning's loop over them, and what a run shows and records."""
