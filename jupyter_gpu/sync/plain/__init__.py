"""Pickles as data: what may be rebuilt of what a worker sends, when its gateway is not trusted with code.

``machine`` reads the pickle; a *kit* for each library says which of its names are known, and rebuilds their values from arguments
that it has checked itself, since a hostile stream may give any.
"""
