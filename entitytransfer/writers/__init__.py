"""Writers: results as files, one file for each format or kind of input; `readers` has those that read them back."""
