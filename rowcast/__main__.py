"""`python -m rowcast`: the same as the command `rowcast`."""

from rowcast.command_line import main

main()
