"""Agents of one kind as single agents and as stacks."""

from __future__ import annotations
