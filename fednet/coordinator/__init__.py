"""The centre of a run: the pure round and the service that carries out its commands."""
