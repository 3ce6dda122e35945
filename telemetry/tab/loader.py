"""Loader of the Channels tab, named by an entry point of TensorBoard's group `tensorboard_plugins`.

TensorBoard imports this file whenever it starts, and exits if the import fails. So nothing is imported here but
TensorBoard itself, and later failures affect the tab alone.
"""

from __future__ import annotations

import logging
from typing import Any

from tensorboard.plugins import base_plugin  # type: ignore[import-untyped]

_log = logging.getLogger(__name__)

_SAMPLES = 1000
"""Log entries of each metric that TensorBoard keeps; its default for other plugins is 100, or 10."""


class ChannelsLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """Loader of the tab's plugin; TensorBoard keeps enough log entries for it."""

    def fix_flags(self, flags: Any) -> None:
        """Raise the number of log entries kept, unless the user has set it."""
        samples = getattr(flags, "samples_per_plugin", None)
        if isinstance(samples, dict):
            samples.setdefault("antiphon", _SAMPLES)

    def load(self, context: Any) -> Any:
        """Return the plugin; None, with one log line, if it cannot be made."""
        try:
            from antiphon.telemetry.tab.plugin import ChannelsPlugin

            return ChannelsPlugin(context, _SAMPLES)
        except Exception as error:  # noqa: BLE001  (on any failure the other tabs must work)
            _log.warning("TensorBoard has no Channels tab: %s: %s", type(error).__name__, error)
            return None
