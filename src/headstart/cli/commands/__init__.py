"""The commands, a file each: its options, the one call of the library that it makes, and what it prints."""
