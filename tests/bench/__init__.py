"""Measurements: each figure beside a peer, a limit or a floor of the same run (`make bench`)."""
