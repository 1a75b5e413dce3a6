//! Real data: the flights example against SQLite.

