"""The loads that benchmarks put on a stack, what to compare it with, and what both cost in CPU time.

``nettest``, ``iperf3``, ``ping``: traffic between two machines. ``relay``, ``vde``: the same path without a virtual
NIC, by the least code there is. ``cpu``: where the processors' time went meanwhile.
"""
