"""The command line: one small module per command, with heavy imports inside."""
