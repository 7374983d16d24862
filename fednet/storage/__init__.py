"""Files that survive a crash: atomic writes, the update spool and the run store."""
