"""Measurements that anyone can repeat: each module has one `run(...)` that returns JSON-able rows."""
