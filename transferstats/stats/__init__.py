"""Statistics: plain arrays in, frozen results out. Knows no torch and no files."""
