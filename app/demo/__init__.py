"""`recount demo`: the whole promise on this machine, measured."""
