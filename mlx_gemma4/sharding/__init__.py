"""A model over several Macs: each process holds a part of it, and one decides."""
