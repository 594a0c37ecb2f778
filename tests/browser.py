"""Opens a page in Chromium, without a screen; prints what happened as JSON.

Usage: python browser.py PAGE.html WIDTH [PICTURE.png]
"""

import json
import os
import sys
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = "--no-sandbox --disable-gpu"

from PyQt6.QtCore import QTimer, QUrl  # which read these variables
from PyQt6.QtWebEngineCore import (
    QWebEnginePage,
    QWebEngineProfile,
    QWebEngineUrlRequestInterceptor,
)
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

FACTS = """({
    height: document.documentElement.scrollHeight,
    width: document.documentElement.scrollWidth,
    pictures: document.images.length,
    broken: [...document.images].filter(x => !x.complete || !x.naturalWidth).length,
    text: document.body.innerText,
})"""


class Requests(QWebEngineUrlRequestInterceptor):
    """Remembers what is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def interceptRequest(self, info):  # noqa: N802 # Qt's name
        url = info.requestUrl().toString()
        if not url.startswith("data:"):
            self.asked.append(url)


class Page(QWebEnginePage):
    """Remembers what is written to the console."""

    said: list[str]

    def javaScriptConsoleMessage(self, level, message, line, source):  # noqa: N802 # Qt's name
        self.said.append(message)


def main():
    app = QApplication(sys.argv[:1])
    file, width = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    profile, requests = QWebEngineProfile(), Requests()
    profile.setUrlRequestInterceptor(requests)
    view = QWebEngineView()
    page = Page(profile, view)
    page.said = []
    view.setPage(page)
    view.resize(width, 900)
    found = {"loaded": False}

    def done(facts):
        found.update(facts, loaded=True, said=page.said, asked=requests.asked)
        view.resize(width, min(int(facts["height"]), 12_000))
        QTimer.singleShot(1000, finish)

    def finish():
        if len(sys.argv) > 3:
            view.grab().save(sys.argv[3])
        app.quit()

    page.loadFinished.connect(lambda _: page.runJavaScript(FACTS, done))
    view.show()
    view.load(QUrl.fromLocalFile(str(file)))
    QTimer.singleShot(60_000, app.quit)
    app.exec()
    print(json.dumps(found), flush=True)
    os._exit(0)  # Chromium's own end takes long, and complains


main()
