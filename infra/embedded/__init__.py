"""The embedded servers: each knows how to be prepared, started, and whether it answers.

All listen on loopback only and keep everything in a folder of their own.
"""
