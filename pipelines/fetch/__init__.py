"""Public sets: downloaded, unpacked, held against what was published, and written as ours."""
