"""The Lance's engine: the half of the NIC that reaches into guest memory and onto the host's network."""
