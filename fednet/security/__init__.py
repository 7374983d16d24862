"""Certificates, join tokens, TLS contexts and who a peer is."""
