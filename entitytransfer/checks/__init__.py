"""Checks that the datasets share: each looks at one kind of file and yields findings."""
