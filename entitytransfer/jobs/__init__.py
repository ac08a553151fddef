"""Jobs: what the ``segment`` command is given, in batches or clip by clip, and what became of it."""
