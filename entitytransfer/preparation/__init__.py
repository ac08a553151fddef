"""Preparation: the files that official scripts make of a dataset's raw ones, one module for each dataset."""
