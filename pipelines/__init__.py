"""Where data and detectors meet the user: configuration, builds, command line."""
