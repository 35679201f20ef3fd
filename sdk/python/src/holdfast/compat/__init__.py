"""Other clients' names for what Holdfast does, each switched on by name."""
