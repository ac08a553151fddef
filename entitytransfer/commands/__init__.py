"""One file for each command: its arguments, and the call that they become. Nothing heavy is imported before it runs."""
