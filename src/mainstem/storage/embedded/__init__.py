"""The engines that need no other service: SQLite, segment files, a folder, DuckDB, this process."""
