"""The command line: the only package that prints, exits and reads the environment."""
