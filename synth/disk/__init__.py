"""Everything about bytes: files that are whole or absent, and the data set on disk."""
