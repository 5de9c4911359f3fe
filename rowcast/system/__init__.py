"""The system API's operations, a module for each noun, and the client that the command line is.

Each module has the arguments and results as structs, the operations as values, and a function
that carries each one out on an installation; rowcast/system/operations.py is the table of all.
"""
