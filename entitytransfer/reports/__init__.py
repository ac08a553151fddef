"""Reports: numbers as tables, plots and pages for people."""
