"""
A stand-in for Healthchecks, which is not on PyPI.

It has what a transport meets there, under the same names and with the same behaviour: the base
class and its error, and ``Channel.notify``, which writes what came of it into the rows.
"""
