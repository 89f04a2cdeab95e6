"""Host networks for a stack: namespaces, TAPs, a bridge, a shaped wire, capture.

Nothing is imported here: a process on the data path imports ``netbackend.tap`` alone and never loads pyroute2.
"""
