"""What commands print: tables, progress, explanations of scenarios, measurements."""

from antiphon.base.imports import import_rich

import_rich()
