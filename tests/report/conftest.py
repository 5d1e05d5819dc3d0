"""A real browser, for the pages that people open in one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Opened:
    """A page of the browser, what its console said, and what it asked for beside the file itself."""

    page: Any
    said: list[str]
    asked: list[str]

    def text(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found


class Browser:
    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def open(self, path: Path, *, width: int = 1280, scheme: str = "light") -> Opened:
        """The file as a user without a network sees it."""
        context = self._browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_offline(True)
        page = context.new_page()
        opened = Opened(page, [], [])

        def heard(dialog: Any) -> None:
            opened.said.append(dialog.message)
            dialog.dismiss()

        page.on("console", lambda message: opened.said.append(message.text))
        page.on("pageerror", lambda error: opened.said.append(str(error)))
        page.on("dialog", heard)
        page.on("request", lambda request: opened.asked.append(request.url))
        page.goto(path.as_uri())
        opened.asked.remove(path.as_uri())
        return opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium: install the package chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        # Root may not use the sandbox, and the file is our own.
        found = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield Browser(found)
        found.close()
