"""The command line, driven as a person drives it: real processes on a real server."""
