"""The subcommands of `rowcast`, a module for each noun; rowcast/command_line.py names them all."""
