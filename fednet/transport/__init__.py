"""asyncio and TLS: pumps bytes through a protocol connection; beside it an in-memory twin for tests."""
