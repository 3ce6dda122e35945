"""Loader of the Channels tab, named by an entry point of TensorBoard's group `tensorboard_plugins`.

TensorBoard imports this file at every start and ends where that fails. So nothing is imported here but TensorBoard
itself, and later failures affect the tab alone.
"""

from __future__ import annotations

import logging
from typing import Any

from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]

__all__ = ["ChannelsLoader"]

_log = logging.getLogger(__name__)

_SAMPLES = 1000
"""Rows of each figure that TensorBoard keeps; its default for other plugins is 100, or 10."""


class ChannelsLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """Loader of the tab's plugin, with enough rows kept by TensorBoard."""

    def fix_flags(self, flags: Any) -> None:
        """Raise the number of rows that are kept, unless the user has named one."""
        samples = getattr(flags, "samples_per_plugin", None)
        if isinstance(samples, dict):
            samples.setdefault("antiphon", _SAMPLES)

    def load(self, context: Any) -> Any:
        """Return the plugin; None, and one line in the log, where it cannot be made."""
        try:
            from antiphon.telemetry.channels.plugin import ChannelsPlugin

            return ChannelsPlugin(context, _SAMPLES)
        except Exception as error:  # noqa: BLE001  (on any failure the other tabs must work)
            _log.warning("TensorBoard has no Channels tab: %s: %s", type(error).__name__, error)
            return None
