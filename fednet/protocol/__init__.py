"""The protocol without I/O: bytes in, events out; no asyncio, ssl, clock or torch."""
